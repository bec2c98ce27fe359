import { InvalidArgumentError, LeaseLostError } from '../errors/errors.ts';
import { SnowflakeSequence, workerIds } from '../ids/snowflake.ts';
import { uuidv7 } from '../ids/uuidv7.ts';
import { monotonicMs } from '../time/monotonic.ts';
import { idle } from '../time/wait.ts';
import type { Lease, LeaseTable } from './lease-table.ts';

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

const defaultOffset = Date.UTC(2024, 0, 1);

/**
 * Makes a generator whose worker id is a named lease, so that two processes can't share it. A worker id that another process used is taken
 * over only after its lease has expired, and its ids then start after that time.
 * @throws InvalidArgumentError if all 1,024 worker ids are leased
 */
export async function createSnowflake(options: SnowflakeOptions): Promise<Snowflake> {
  const leaseMs = options.leaseMs ?? 60_000;
  const offset = options.offset ?? defaultOffset;
  const owner = uuidv7();
  let lease: Lease | undefined;
  let workerId = -1;
  const first = Math.floor(Math.random() * workerIds);
  for (let i = 0; i < workerIds && !lease; i++) {
    workerId = (first + i) % workerIds;
    lease = await options.leases.acquire('snowflake', String(workerId), owner, leaseMs);
  }
  if (!lease)
    throw new InvalidArgumentError(
      'All 1,024 snowflake worker ids are leased. Stop processes that are no longer needed, or wait for their leases to expire.',
    );
  let held: Lease = lease;
  // The clocks of the database and of this process may differ: ids start from the later of the two.
  const skew = Math.max(0, (await options.leases.database.now()) - Date.now());
  const sequence = new SnowflakeSequence({ mid: workerId, offset, now: () => Date.now() + skew });
  const stopping = new AbortController();
  const renewing = (async () => {
    while (!stopping.signal.aborted) {
      await idle(leaseMs / 3, stopping.signal).catch(() => undefined);
      if (stopping.signal.aborted) return;
      held = await options.leases.renew(held, leaseMs).catch(() => held);
    }
  })();
  const nextBigInt = (): bigint => {
    if (monotonicMs() > held.deadline) {
      throw new LeaseLostError(
        `The lease on snowflake worker id ${workerId} could not be renewed for ${leaseMs} ms; another process may have it. Restart this process, or raise leaseMs above the longest outage.`,
      );
    }
    return sequence.nextBigInt();
  };
  const stop = async (): Promise<void> => {
    if (stopping.signal.aborted) return;
    stopping.abort(new Error('stopped'));
    await renewing;
    // If ids ran ahead of the clock, the lease is left to expire: the next holder of the worker id must not repeat them.
    if (sequence.aheadMs <= 0) await options.leases.release(held).catch(() => undefined);
  };
  return { next: () => nextBigInt().toString(), nextBigInt, workerId, stop, [Symbol.asyncDispose]: stop };
}
