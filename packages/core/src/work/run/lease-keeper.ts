import { LeaseLostError } from '../../errors/errors.ts';
import { checkpoint } from '../../observe/checkpoint.ts';
import type { Logger } from '../../observe/logger.ts';
import { monotonicMs } from '../../time/monotonic.ts';
import type { ClaimedRow } from '../row/table-sql.ts';
import type { WorkTable } from '../row/work-table.ts';
import type { HeldRow } from './held-row.ts';

export interface LeaseKeeperOptions {
  readonly table: WorkTable;
  readonly owner: string;
  readonly leaseMs: number;
  readonly logger: Logger;
  /** A lease ran out by our own clock, before its row is aborted. */
  readonly onExpired: (row: ClaimedRow) => void;
}

/**
 * Keeps the leases of one worker's rows: one statement for all of them every third of the lease. What can't be renewed is
 * aborted here at its deadline by the monotonic clock, without the database: over a cut connection "zero rows" never
 * arrives.
 */
export class LeaseKeeper {
  readonly #options: LeaseKeeperOptions;
  readonly #held = new Map<string, HeldRow>();
  #ticker: NodeJS.Timeout | undefined;
  #renewedAt = 0;
  #renewing = false;

  constructor(options: LeaseKeeperOptions) {
    this.#options = options;
  }

  /** Rows held. */
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
    // Claimed again here while the run that lost it still goes on: that run must hear of it.
    this.#held
      .get(held.row.id)
      ?.abort(new LeaseLostError(`Row ${held.row.id} (${held.row.kind}) was lost and claimed again. Stop; this run is not accepted.`));
    this.#held.set(held.row.id, held);
  }

  remove(row: ClaimedRow): void {
    // The same row may be ours again under a later version, while a run that lost it is still ending.
    if (this.#held.get(row.id)?.row.version === row.version) this.#held.delete(row.id);
  }

  abort(id: string, reason: Error): void {
    this.#held.get(id)?.abort(reason);
  }

  abortAll(reason: Error): void {
    for (const held of this.#held.values()) held.abort(reason);
  }

  #tick(): void {
    const now = monotonicMs();
    for (const held of this.#held.values()) {
      if (held.deadline > now || held.aborted) continue;
      this.#options.onExpired(held.row);
      held.abort(
        new LeaseLostError(
          `The lease on row ${held.row.id} (${held.row.kind}) ran out ${Math.round(now - held.deadline)} ms ago: renewals did not get through. Stop; the row runs again elsewhere.`,
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
    const rows = [...this.#held.values()].filter((held) => !held.aborted);
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
      // Locked by a settle under way, or gone: a look without locks tells which.
      const still = await table.held(ids(missing), owner);
      for (const held of missing) {
        if (still.get(held.row.id) === held.row.version || !this.#held.has(held.row.id)) continue;
        held.abort(
          new LeaseLostError(
            `Row ${held.row.id} (${held.row.kind}) was cancelled or taken over while it ran. Stop; nothing more of this run will be accepted.`,
          ),
        );
      }
    } catch (error) {
      logger.debug({ err: error }, 'leases could not be renewed; they are tried again until they run out');
      this.#renewedAt = 0;
    }
  }
}
