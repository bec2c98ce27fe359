import { type Duration, durationMs, InvalidArgumentError, shownValue, wholeNumber } from '@holdfast/core';

/**
 * Limits of one run. A program that exceeds one is ended with a reason such as OOM or TIMEOUT. Each is a whole number of at least
 * `leastRunLimits` (16 MiB of memory, 64 KiB of disk, 1 of the others); only `cpus` may have a fraction.
 */
export interface RunLimits {
  /** Bytes of memory of all its processes together, including files in `/scratch`, `/tmp` and `/out`. Default 512 MiB. */
  readonly memoryBytes: number;
  /** Processor cores; fractions are allowed. Default 1. */
  readonly cpus: number;
  /** Time from start to end, including compilation, in ms. Default 10 minutes. */
  readonly timeoutMs: number;
  /** Bytes of standard output and standard error together. Default 16 MiB. */
  readonly outputBytes: number;
  /** Bytes in each of `/scratch`, `/tmp` and `/out`. Default 256 MiB. */
  readonly diskBytes: number;
  /** Processes and threads at a time. Default 128. */
  readonly processes: number;
  /** Bytes that are collected from `/out`. Files above the limit are left out. Default 64 MiB. */
  readonly resultBytes: number;
}

/** The limits of a run whose pool and submit set none. */
export const defaultRunLimits: RunLimits = {
  memoryBytes: 512 * 2 ** 20,
  cpus: 1,
  timeoutMs: 600_000,
  outputBytes: 16 * 2 ** 20,
  diskBytes: 256 * 2 ** 20,
  processes: 128,
  resultBytes: 64 * 2 ** 20,
};

/** The lowest limits: with less, the kernel refuses the limit, or the sandbox itself does not start. */
export const leastRunLimits: RunLimits = {
  memoryBytes: 16 * 2 ** 20,
  cpus: 0.01,
  timeoutMs: 1,
  outputBytes: 1,
  diskBytes: 64 * 2 ** 10,
  processes: 1,
  resultBytes: 1,
};

/** A pool: runs that share a number of slots. */
export interface PoolOptions {
  /** Runs at a time, over all workers of all processes. Default 4. */
  readonly slots?: number;
  /** The limits of a run whose submit sets none, and the highest limits that a submit may set. Default: {@link defaultRunLimits}. */
  readonly limits?: Partial<RunLimits>;
  /** Bytes of memory for all runs of the pool together. A run waits until its `memoryBytes` fit. Default: only `slots` limits the pool. */
  readonly memoryBytes?: number;
}

/** A pool with its defaults applied. */
export interface Pool {
  readonly name: string;
  readonly slots: number;
  readonly limits: RunLimits;
  readonly memoryBytes: number | undefined;
}

export function poolOf(name: string, { slots = 4, limits, memoryBytes }: PoolOptions): Pool {
  if (!/^[a-z][a-z0-9-]{0,49}$/.test(name))
    throw new InvalidArgumentError(`The pool's name is ${shownValue(name)}; use a-z, 0-9 and -, at most 50.`);
  wholeNumber(`pools.${name}.slots`, slots);
  const all = { ...defaultRunLimits, ...limits };
  for (const [key, value] of Object.entries(all)) checkLimit(`limits.${key} of the pool ${name}`, key, value);
  if (memoryBytes !== undefined) wholeNumber(`pools.${name}.memoryBytes`, memoryBytes);
  if (memoryBytes !== undefined && memoryBytes < all.memoryBytes)
    throw new InvalidArgumentError(
      `The pool ${name} has ${memoryBytes} bytes of memory, less than one run may use (${all.memoryBytes}); raise memoryBytes or lower limits.memoryBytes.`,
    );
  return { name, slots, limits: all, memoryBytes };
}

/**
 * The limits of a run: the limits that it asks for, and those of its pool for the rest.
 * @throws InvalidArgumentError that names the limit
 */
export function limitsWithin(pool: Pool, asked: Partial<RunLimits> & { readonly timeout?: Duration } = {}): RunLimits {
  const { timeout, ...rest } = asked;
  const wanted = { ...rest, ...(timeout === undefined ? {} : { timeoutMs: durationMs(timeout, 'limits.timeout') }) };
  for (const [key, value] of Object.entries(wanted)) {
    checkLimit(`limits.${key}`, key, value);
    const most = pool.limits[key as keyof RunLimits];
    if (value > most)
      throw new InvalidArgumentError(
        `limits.${key} is ${value}; the pool ${pool.name} allows ${most} at most. Ask for less, or choose another pool.`,
      );
  }
  return { ...pool.limits, ...wanted };
}

/** @throws InvalidArgumentError unless the limit exists, and the value can be one */
function checkLimit(name: string, key: string, value: unknown): void {
  if (!Object.hasOwn(leastRunLimits, key))
    throw new InvalidArgumentError(
      `There is no limit ${JSON.stringify(key.slice(0, 40))}; choose from ${Object.keys(leastRunLimits).join(', ')}.`,
    );
  const least = leastRunLimits[key as keyof RunLimits];
  if (key !== 'cpus') wholeNumber(name, value, { least });
  else if (typeof value !== 'number' || !(value >= least) || !Number.isFinite(value))
    throw new InvalidArgumentError(`${name} is ${shownValue(value)}; give a number of at least ${least}.`);
}
