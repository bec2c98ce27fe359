import { InvalidArgumentError, LeaseLostError } from '../errors/errors.ts';
import { workerIds } from '../ids/snowflake.ts';
import { uuidv7 } from '../ids/uuidv7.ts';
import { monotonicMs } from '../time/monotonic.ts';
import { idle } from '../time/wait.ts';
import type { Lease, LeaseTable } from './lease-table.ts';

/** Options of {@link LeasedWorkerId.take}. */
export interface WorkerIdOptions {
  readonly leases: LeaseTable;
  readonly leaseMs: number;
  /** The worker ids that may be taken. Default: all 1,024. */
  readonly usable?: (workerId: number) => boolean;
  /**
   * False if a worker id can't be used since its last id may be of this time, in ms since 1970. Another one is taken then. Default: all can be
   * used.
   */
  readonly follows?: (lastMs: number) => boolean;
}

/**
 * A snowflake worker id that only this process has, by a named lease.
 *
 * The clock of the host that had it before may have run ahead, and that host may have died: so the last time that its ids may have is stored
 * with the lease, and is written before ids of that time are made. It is a row of the table of leases, so that a purge of expired leases
 * keeps it until that time is long past.
 */
export class LeasedWorkerId {
  readonly workerId: number;
  /** Ids of an earlier holder may have times up to this, in ms since 1970. 0 if the worker id was never used. */
  readonly after: number;
  readonly #leases: LeaseTable;
  readonly #leaseMs: number;
  readonly #stopping = new AbortController();
  #held: Lease;
  #renewing: Promise<void> | undefined;

  private constructor({ leases, leaseMs }: WorkerIdOptions, workerId: number, held: Lease, after: number) {
    this.workerId = workerId;
    this.after = after;
    this.#leases = leases;
    this.#leaseMs = leaseMs;
    this.#held = held;
  }

  /** @throws InvalidArgumentError if no usable worker id is free */
  static async take(options: WorkerIdOptions): Promise<LeasedWorkerId> {
    const { leases, leaseMs, usable = () => true, follows = () => true } = options;
    const owner = uuidv7();
    const first = Math.floor(Math.random() * workerIds);
    let ahead = 0;
    for (let i = 0; i < workerIds; i++) {
      const workerId = (first + i) % workerIds;
      if (!usable(workerId)) continue;
      const held = await leases.acquire('snowflake', String(workerId), owner, leaseMs);
      if (!held) continue;
      const after = await leases.mark(lastScope, String(workerId));
      if (follows(after)) return new LeasedWorkerId(options, workerId, held, after);
      ahead += 1;
      await leases.release(held);
    }
    throw new InvalidArgumentError(
      ahead === 0
        ? 'All snowflake worker ids (1,024) are leased. Stop processes that are no longer needed, or wait for their leases to expire.'
        : `No snowflake worker id can be used: ${ahead} are free, and each made ids whose time this host's clock has not reached. Set the clock, or wait.`,
    );
  }

  /** Allows ids up to a time, in ms since 1970: a later holder's ids start after it. @throws LeaseLostError if another process has it */
  allow(ms: number): Promise<void> {
    return this.#leases.setMark(this.#held, lastScope, String(this.workerId), ms);
  }

  /** Renews the lease again and again, and calls `renewed` each time. */
  keep(renewed: () => Promise<void>): void {
    const { signal } = this.#stopping;
    this.#renewing = (async () => {
      while (!signal.aborted) {
        await idle(this.#leaseMs / 3, signal).catch(() => undefined);
        if (signal.aborted) return;
        this.#held = await this.#leases.renew(this.#held, this.#leaseMs).catch(() => this.#held);
        await renewed().catch(() => undefined);
      }
    })();
  }

  /** @throws LeaseLostError if the lease has expired, so that another process may have the worker id */
  check(): void {
    if (monotonicMs() <= this.#held.deadline) return;
    throw new LeaseLostError(
      `The lease on snowflake worker id ${this.workerId} could not be renewed for ${this.#leaseMs} ms; another process may have it. Restart this process, or raise leaseMs above the longest outage.`,
    );
  }

  /** Releases the worker id. `last` returns the time of the last id, in ms since 1970. */
  async stop(last: () => number): Promise<void> {
    if (this.#stopping.signal.aborted) return;
    this.#stopping.abort(new Error('stopped'));
    await this.#renewing;
    // If the last time can't be written, the lease is left to expire.
    await this.allow(last()).then(
      () => this.#leases.release(this.#held).catch(() => undefined),
      () => undefined,
    );
  }
}

const lastScope = 'snowflake-last';
