import { LeaseLostError } from '../../errors/errors.ts';
import { checkpoint } from '../../observe/checkpoint.ts';
import type { Logger } from '../../observe/logger.ts';
import { monotonicMs } from '../../time/monotonic.ts';
import type { ClaimedRow } from '../row/table-sql.ts';
import type { WorkTable } from '../row/work-table.ts';
import type { HeldRow } from './held-row.ts';

/** The table and the worker whose rows a {@link LeaseKeeper} keeps. */
export interface LeaseKeeperOptions {
  readonly table: WorkTable;
  readonly owner: string;
  readonly leaseMs: number;
  readonly logger: Logger;
  /** Called when a lease has expired by the clock of this process, before its row is aborted. */
  readonly onExpired: (row: ClaimedRow) => void;
}

/**
 * Renews the leases of one worker's rows: one statement for all of them, every third of the lease. (`lease/keep-lease.ts` renews a lease by name.) A row whose lease can't be renewed is
 * aborted at its deadline by the monotonic clock, without the database: over a broken connection the answer that no row was renewed never
 * arrives.
 */
export class LeaseKeeper {
  readonly #options: LeaseKeeperOptions;
  readonly #held = new Map<string, HeldRow>();
  #ticker: NodeJS.Timeout | undefined;
  #renewedAt = 0;
  #renewing = false;
  /** True while a renewal waits for locks. */
  #waiting = false;

  constructor(options: LeaseKeeperOptions) {
    this.#options = options;
  }

  /** The number of rows held. */
  get size(): number {
    return this.#held.size;
  }

  start(): void {
    this.#renewedAt = monotonicMs();
    this.#ticker = setInterval(() => this.#tick(), Math.max(20, Math.min(500, this.#options.leaseMs / 10)));
  }

  stop(): void {
    clearInterval(this.#ticker);
    this.#ticker = undefined;
  }

  add(held: HeldRow): void {
    // This worker may claim a row again while its own run that lost the row has not ended. That run is aborted.
    this.#held
      .get(held.row.id)
      ?.abort(new LeaseLostError(`Row ${held.row.id} (${held.row.kind}) was lost and claimed again. Stop; this run is not accepted.`));
    this.#held.set(held.row.id, held);
  }

  remove(row: ClaimedRow): void {
    // The worker may hold the same row under a later version, while a run that lost it has not ended.
    if (this.#held.get(row.id)?.row.version === row.version) this.#held.delete(row.id);
  }

  abort(id: string, reason: Error): void {
    this.#held.get(id)?.abort(reason);
  }

  /** Aborts all runs, since the worker is stopping. Their leases are still renewed: a handler may need time to end. */
  interruptAll(reason: Error): void {
    for (const held of this.#held.values()) held.interrupt(reason);
  }

  #tick(): void {
    const now = monotonicMs();
    for (const held of this.#held.values()) {
      if (held.deadline > now || held.lost) continue;
      this.#options.onExpired(held.row);
      held.abort(
        new LeaseLostError(
          `The lease on row ${held.row.id} (${held.row.kind}) expired ${Math.round(now - held.deadline)} ms ago: it could not be renewed. Stop; the row runs again elsewhere.`,
        ),
      );
    }
    if (this.#renewing || now - this.#renewedAt < this.#options.leaseMs / 3 || this.#held.size === 0) return;
    this.#renewedAt = now;
    this.#renewing = true;
    void this.#renew(now).finally(() => {
      this.#renewing = false;
    });
  }

  async #renew(sentAt: number): Promise<void> {
    const { table, owner, leaseMs, logger } = this.#options;
    const rows = [...this.#held.values()].filter((held) => !held.lost);
    const ids = (some: readonly HeldRow[]): string[] => some.map((held) => held.row.id);
    try {
      await checkpoint('work:before-renew');
      const renewed = await table.renew(ids(rows), owner, leaseMs);
      const missing: HeldRow[] = [];
      for (const held of rows) {
        if (renewed.get(held.row.id) === held.row.version) held.deadline = sentAt + leaseMs;
        else missing.push(held);
      }
      if (missing.length === 0) return;
      // A missing row is locked by a settle, or no longer held. A read without locks tells which.
      const still = await table.held(ids(missing), owner);
      const late: HeldRow[] = [];
      for (const held of missing) {
        if (!this.#held.has(held.row.id)) continue;
        if (still.get(held.row.id) === held.row.version) {
          if (held.deadline - sentAt < leaseMs / 2) late.push(held);
          continue;
        }
        held.abort(
          new LeaseLostError(
            `Row ${held.row.id} (${held.row.kind}) was cancelled or taken over while it ran. Stop; nothing more of this run will be accepted.`,
          ),
        );
      }
      if (late.length > 0) void this.#renewLocked(late);
    } catch (error) {
      logger.debug({ err: error }, 'leases could not be renewed; retrying until they expire');
      this.#renewedAt = 0;
    }
  }

  /**
   * Renews rows that were locked at their last renewal, too, and waits for their locks: transactions that lock a row one after the other, as
   * many submits of one `once` key do, would otherwise let its lease expire.
   */
  async #renewLocked(rows: readonly HeldRow[]): Promise<void> {
    if (this.#waiting) return;
    this.#waiting = true;
    const { table, owner, leaseMs, logger } = this.#options;
    try {
      // One by one: a statement that holds one lock and waits for another may deadlock with a settle.
      for (const held of rows) {
        if (held.lost) continue;
        const sentAt = monotonicMs();
        const renewed = await table.renew([held.row.id], owner, leaseMs, 'wait');
        if (renewed.get(held.row.id) === held.row.version) held.deadline = Math.max(held.deadline, sentAt + leaseMs);
      }
    } catch (error) {
      logger.debug({ err: error }, 'leases of locked rows could not be renewed; retrying until they expire');
    } finally {
      this.#waiting = false;
    }
  }
}
