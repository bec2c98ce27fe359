import { ClockBehindError, InvalidArgumentError } from '../errors/errors.ts';
import { defaultSnowflakeOffset } from '../ids/snowflake.ts';
import { type SnowflakeGenerator, SnowflakeGuard } from '../ids/snowflake-guard.ts';
import { monotonicMs } from '../time/monotonic.ts';
import { wait } from '../time/wait.ts';
import type { SnowflakeOptions } from './leased-snowflake.ts';
import { LeasedWorkerId } from './leased-worker-id.ts';

/** Options of {@link snowflakeFrom}. */
export interface SnowflakeFromOptions extends SnowflakeOptions {
  /**
   * How long a call waits for the clock to pass the last id's time, in ms. Default 5,000. A call whose wait would be longer is refused with
   * {@link ClockBehindError}.
   */
  readonly waitMs?: number;
}

/** Ids of a library's generator, none twice. */
export interface GuardedSnowflake extends AsyncDisposable {
  /**
   * The next id, as a decimal string of at most 20 characters. It waits while the generator would repeat ids.
   * @throws LeaseLostError if the lease of the worker id has expired; ClockBehindError; `signal.reason`
   */
  next(options?: { readonly signal?: AbortSignal }): Promise<string>;
  /** The next `count` ids, in ascending order. Long ones let other work of the process run between. @throws as `next` does */
  take(count: number, options?: { readonly signal?: AbortSignal }): Promise<string[]>;
  readonly workerId: number;
  /** Releases the worker id. */
  stop(): Promise<void>;
}

/** How long ids are made before other work of the process has its turn, in ms. `snowflake-id` makes some 35 ids in a millisecond. */
const turnMs = 5;

/**
 * Makes ids by a library's generator, such as npm's `snowflake-id`, which alone repeats ids when it makes more than 4,096 in a millisecond, when
 * the clock steps back, and in two processes with one worker id:
 *
 * ```ts
 * const ids = await snowflakeFrom((mid, offset) => new SnowflakeId({ mid, offset }), { leases });
 * const id = await ids.next();
 * ```
 *
 * The worker id is a named lease, one of those of {@link createSnowflake}, so ids of both differ. Every id is greater than the one before: one that
 * is not is dropped, and the call waits for the clock. Worker ids 0 and 1023 are left out, since `snowflake-id` makes 1 and 0 of them.
 * @throws InvalidArgumentError if all worker ids are leased, or if the generator's ids have another worker id, offset or layout
 */
export async function snowflakeFrom(
  create: (workerId: number, offset: number) => SnowflakeGenerator,
  options: SnowflakeFromOptions,
): Promise<GuardedSnowflake> {
  const { leases, leaseMs = 60_000, offset = defaultSnowflakeOffset, waitMs = 5_000 } = options;
  const worker = await LeasedWorkerId.take({
    leases,
    leaseMs,
    usable: (workerId) => workerId > 0 && workerId < 1023,
    // The generator's ids can't run ahead of the clock.
    follows: (lastMs) => lastMs < Date.now(),
  });
  const { workerId, after } = worker;
  const guard = guarded({ create, workerId, offset, after });
  if (guard instanceof Error) {
    await worker.stop(() => after);
    throw guard;
  }
  let stopped = false;
  let allowing: Promise<void> | undefined;
  /** Allows ids of the next `leaseMs`. Calls share one write. */
  const allow = (): Promise<void> => {
    allowing ??= (async () => {
      const until = Math.max(Date.now(), guard.lastMs) + leaseMs;
      await worker.allow(until);
      guard.allowUntil(until);
    })().finally(() => {
      allowing = undefined;
    });
    return allowing;
  };
  await allow();
  worker.keep(allow);

  const next = async (signal: AbortSignal | undefined): Promise<string> => {
    const startMs = monotonicMs();
    for (let drops = 0; ; ) {
      signal?.throwIfAborted();
      if (stopped) throw new InvalidArgumentError('The snowflake generator was stopped. Make ids before stop() is called.');
      worker.check();
      const id = guard.ask();
      if (typeof id === 'bigint') return id.toString();
      drops += 1;
      if (id === 'beyond' && drops < 5) {
        // The clock has jumped past what was allowed.
        await allow();
        continue;
      }
      const behindMs = guard.lastMs - Date.now();
      if (behindMs + monotonicMs() - startMs > waitMs) throw new ClockBehindError(workerId, behindMs, waitMs);
      // The clock may have gone on since the generator read it.
      if (behindMs >= 0 || drops > 2) await wait(Math.max(1, behindMs + 1), signal);
    }
  };
  const take = async (count: number, { signal }: { readonly signal?: AbortSignal } = {}): Promise<string[]> => {
    const ids: string[] = [];
    let turnEnds = monotonicMs() + turnMs;
    while (ids.length < count) {
      if (monotonicMs() > turnEnds) {
        await new Promise((resolve) => setImmediate(resolve));
        turnEnds = monotonicMs() + turnMs;
      }
      ids.push(await next(signal));
    }
    return ids;
  };
  const stop = async (): Promise<void> => {
    stopped = true;
    await worker.stop(() => guard.lastMs);
  };
  return { next: ({ signal } = {}) => next(signal), take, workerId, stop, [Symbol.asyncDispose]: stop };
}

/** A guard of a generator whose first id is right, or the error of creating one. */
function guarded(options: {
  readonly create: (workerId: number, offset: number) => SnowflakeGenerator;
  readonly workerId: number;
  readonly offset: number;
  readonly after: number;
}): SnowflakeGuard | Error {
  try {
    const generator = options.create(options.workerId, options.offset);
    const guard = new SnowflakeGuard({ ...options, generator, until: 0 });
    guard.check();
    guard.ask();
    return guard;
  } catch (error) {
    return error as Error;
  }
}
