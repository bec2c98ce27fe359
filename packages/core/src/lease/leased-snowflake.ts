import { LeaseLostError } from '../errors/errors.ts';
import { defaultSnowflakeOffset, SnowflakeSequence } from '../ids/snowflake.ts';
import type { LeaseTable } from './lease-table.ts';
import { LeasedWorkerId } from './leased-worker-id.ts';

/** Options of {@link createSnowflake}. */
export interface SnowflakeOptions {
  /** The table in which the worker id is leased. */
  readonly leases: LeaseTable;
  /** The time from which ids count, in ms since 1970. Default: 2024-01-01. Ids last for 69 years from it. All processes must use the same. */
  readonly offset?: number;
  /** How long the worker id stays this process's without a renewal, in ms. Default 60,000. After that, `next` throws. */
  readonly leaseMs?: number;
}

/** Makes 64-bit ids that no other process on the same database makes. */
export interface Snowflake extends AsyncDisposable {
  /** The next id, as a decimal string of at most 20 characters. @throws LeaseLostError if the lease of the worker id has expired. */
  next(): string;
  /** The next id, as a bigint. @throws LeaseLostError as `next` does. */
  nextBigInt(): bigint;
  readonly workerId: number;
  /** Releases the worker id. */
  stop(): Promise<void>;
}

/**
 * Makes a generator whose worker id is a named lease, so that two processes can't share it. A worker id that another process used is taken
 * over only after its lease has expired or was released, and its ids then start after the last that the other process may have made.
 * @throws InvalidArgumentError if all 1,024 worker ids are leased
 */
export async function createSnowflake(options: SnowflakeOptions): Promise<Snowflake> {
  const { leases, leaseMs = 60_000, offset = defaultSnowflakeOffset } = options;
  const worker = await LeasedWorkerId.take({ leases, leaseMs });
  const { workerId, after } = worker;
  // The clocks of the database and of this process may differ: ids start from the later of the two.
  const skew = Math.max(0, (await leases.database.now()) - Date.now());
  const now = (): number => Date.now() + skew;
  const until = Math.max(now(), after) + leaseMs;
  await worker.allow(until);
  const sequence = new SnowflakeSequence({ mid: workerId, offset, now, after, until });
  worker.keep(async () => {
    const longer = Math.max(now(), sequence.lastMs) + leaseMs;
    await worker.allow(longer);
    sequence.allowUntil(longer);
  });
  const nextBigInt = (): bigint => {
    worker.check();
    try {
      return sequence.nextBigInt();
    } catch (cause) {
      throw new LeaseLostError(
        `Snowflake worker id ${workerId} has given every id that its lease allows, since the lease could not be renewed. Call again once the database answers.`,
        cause,
      );
    }
  };
  const stop = (): Promise<void> => worker.stop(() => sequence.lastMs);
  return { next: () => nextBigInt().toString(), nextBigInt, workerId, stop, [Symbol.asyncDispose]: stop };
}
