import { type Duration, durationMs, InvalidArgumentError } from '@holdfast/core';

/** What one run may use. */
export interface RunLimits {
  /** Bytes of memory, of all its processes together, `/scratch`, `/tmp` and `/out` included. Default 512 MiB. */
  readonly memoryBytes: number;
  /** Cores. Default 1. */
  readonly cpus: number;
  /** From start to end, compilation included, in ms. Default 10 minutes. */
  readonly timeoutMs: number;
  /** Bytes of output, standard output and standard error together. Default 16 MiB. */
  readonly outputBytes: number;
  /** Bytes under `/scratch`, `/tmp` and `/out`, each. Default 256 MiB. */
  readonly diskBytes: number;
  /** Processes and threads. Default 128. */
  readonly processes: number;
  /** Bytes that are collected from `/out`, at most. Default 64 MiB. */
  readonly resultBytes: number;
}

/** The limits of a run, unless a task, a language or a pool says otherwise. */
export const defaultRunLimits: RunLimits = {
  memoryBytes: 512 * 2 ** 20,
  cpus: 1,
  timeoutMs: 600_000,
  outputBytes: 16 * 2 ** 20,
  diskBytes: 256 * 2 ** 20,
  processes: 128,
  resultBytes: 64 * 2 ** 20,
};

/** Runs that share a number of slots. */
export interface PoolOptions {
  /** Runs at a time, over all workers. Default 4. */
  readonly slots?: number;
  /** What a run gets that asks for nothing, and the most it may ask for. */
  readonly limits?: Partial<RunLimits>;
  /** Memory of all runs at a time. Default: none but the slots'. */
  readonly memoryBytes?: number;
}

/** Slots that runs wait for, and what a run in them may use. */
export interface Pool {
  readonly name: string;
  readonly slots: number;
  readonly limits: RunLimits;
  readonly memoryBytes: number | undefined;
}

export function poolOf(name: string, { slots = 4, limits, memoryBytes }: PoolOptions): Pool {
  if (!/^[a-z][a-z0-9-]{0,49}$/.test(name))
    throw new InvalidArgumentError(`The pool's name is ${JSON.stringify(name)}; use a-z, 0-9 and -, at most 50.`);
  if (!Number.isInteger(slots) || slots < 1)
    throw new InvalidArgumentError(`The pool ${name} has ${slots} slots; give a whole number of at least 1.`);
  const all = { ...defaultRunLimits, ...limits };
  for (const [key, value] of Object.entries(all))
    if (!(value > 0)) throw new InvalidArgumentError(`limits.${key} of the pool ${name} is ${value}; give a number above 0.`);
  if (memoryBytes !== undefined && memoryBytes < all.memoryBytes)
    throw new InvalidArgumentError(
      `The pool ${name} has ${memoryBytes} bytes of memory, less than one run may use (${all.memoryBytes}); raise memoryBytes or lower limits.memoryBytes.`,
    );
  return { name, slots, limits: all, memoryBytes };
}

/**
 * What a run gets: what it asks for, within its pool's.
 * @throws InvalidArgumentError that names the limit
 */
export function limitsWithin(pool: Pool, asked: Partial<RunLimits> & { readonly timeout?: Duration } = {}): RunLimits {
  const { timeout, ...rest } = asked;
  const wanted = { ...rest, ...(timeout === undefined ? {} : { timeoutMs: durationMs(timeout, 'limits.timeout') }) };
  for (const [key, value] of Object.entries(wanted)) {
    const most = pool.limits[key as keyof RunLimits];
    if (most === undefined)
      throw new InvalidArgumentError(
        `There is no limit ${JSON.stringify(key.slice(0, 40))}; there are ${Object.keys(pool.limits).join(', ')}.`,
      );
    if (typeof value !== 'number' || !(value > 0))
      throw new InvalidArgumentError(`limits.${key} is ${JSON.stringify(value)}; give a number above 0.`);
    if (value > most)
      throw new InvalidArgumentError(
        `limits.${key} is ${value}; the pool ${pool.name} allows ${most} at most. Ask for less, or choose another pool.`,
      );
  }
  return { ...pool.limits, ...wanted };
}
