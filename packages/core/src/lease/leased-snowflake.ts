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
 * The last time that an id of a worker id may have: the clock of the host that made the ids may run ahead, and it may have died. It is a row
 * of the table of leases, so that a purge of expired leases keeps it until that time is long past.
 */
class LastInstant {
  readonly #leases: LeaseTable;
  readonly #name: string;

  constructor(leases: LeaseTable, name: string) {
    this.#leases = leases;
    this.#name = name;
  }

  /** In ms since 1970; 0 if the worker id was never used. */
  read(): Promise<number> {
    return this.#leases.mark(lastScope, this.#name);
  }

  /** @throws LeaseLostError if another process has the worker id */
  write(lease: Lease, ms: number): Promise<void> {
    return this.#leases.setMark(lease, lastScope, this.#name, ms);
  }
}

const lastScope = 'snowflake-last';

/**
 * Makes a generator whose worker id is a named lease, so that two processes can't share it. A worker id that another process used is taken
 * over only after its lease has expired or was released, and its ids then start after the last that the other process may have made.
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
  const last = new LastInstant(options.leases, String(workerId));
  // The clocks of the database and of this process may differ: ids start from the later of the two.
  const skew = Math.max(0, (await options.leases.database.now()) - Date.now());
  const now = (): number => Date.now() + skew;
  const after = await last.read();
  const until = Math.max(now(), after) + leaseMs;
  await last.write(held, until);
  const sequence = new SnowflakeSequence({ mid: workerId, offset, now, after, until });
  const stopping = new AbortController();
  const renewing = (async () => {
    while (!stopping.signal.aborted) {
      await idle(leaseMs / 3, stopping.signal).catch(() => undefined);
      if (stopping.signal.aborted) return;
      held = await options.leases.renew(held, leaseMs).catch(() => held);
      const longer = Math.max(now(), sequence.lastMs) + leaseMs;
      await last.write(held, longer).then(
        () => sequence.allowUntil(longer),
        () => undefined,
      );
    }
  })();
  const nextBigInt = (): bigint => {
    if (monotonicMs() > held.deadline) {
      throw new LeaseLostError(
        `The lease on snowflake worker id ${workerId} could not be renewed for ${leaseMs} ms; another process may have it. Restart this process, or raise leaseMs above the longest outage.`,
      );
    }
    try {
      return sequence.nextBigInt();
    } catch (cause) {
      throw new LeaseLostError(
        `Snowflake worker id ${workerId} has given every id that its lease allows, since the lease could not be renewed. Call again once the database answers.`,
        cause,
      );
    }
  };
  const stop = async (): Promise<void> => {
    if (stopping.signal.aborted) return;
    stopping.abort(new Error('stopped'));
    await renewing;
    // If the last instant can't be written, the lease is left to expire.
    await last.write(held, sequence.lastMs).then(
      () => options.leases.release(held).catch(() => undefined),
      () => undefined,
    );
  };
  return { next: () => nextBigInt().toString(), nextBigInt, workerId, stop, [Symbol.asyncDispose]: stop };
}
