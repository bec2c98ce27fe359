import { InvalidArgumentError, LeaseLostError } from '../errors/errors.ts';
import { SnowflakeSequence, workerIds } from '../ids/snowflake.ts';
import { uuidv7 } from '../ids/uuidv7.ts';
import { monotonicMs } from '../time/monotonic.ts';
import { idle } from '../time/wait.ts';
import type { Lease, LeaseTable } from './lease-table.ts';

/** Options of {@link createSnowflake}. */
export interface SnowflakeOptions {
  readonly leases: LeaseTable;
  /** Ms since 1970 that count as 0. Default 2024-01-01; the ids last for 69 years from it. */
  readonly offset?: number;
  /** Default 60,000 ms. */
  readonly leaseMs?: number;
}

/** 64-bit ids that no other process of the same database makes. */
export interface Snowflake extends AsyncDisposable {
  /** As a decimal string. Columns that hold it are CHAR(20). @throws LeaseLostError if the worker id's lease has expired. */
  next(): string;
  /** The next id, as a bigint. */
  nextBigInt(): bigint;
  readonly workerId: number;
  /** Gives the worker id back. */
  stop(): Promise<void>;
}

const defaultOffset = Date.UTC(2024, 0, 1);

/**
 * A generator whose worker id is a named lease, so that two processes can't share one. A worker id that was used before
 * is only taken over after its lease has expired, and starts past that time.
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
  // The database's clock and ours may differ: start no earlier than both.
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
    // Kept until it expires when ids ran ahead of the clock: its next holder must not repeat them.
    if (sequence.aheadMs <= 0) await options.leases.release(held).catch(() => undefined);
  };
  return { next: () => nextBigInt().toString(), nextBigInt, workerId, stop, [Symbol.asyncDispose]: stop };
}
