import { keepLease, type Lease, type LeaseTable, monotonicMs, startTimer, wait } from '@holdfast/core';
import { ProcessTimeoutError } from '../errors.ts';
import { callBounded } from './call-bounded.ts';
import { requireSameMeaning } from './condition-modes.ts';
import { handOver } from './hand-over.ts';
import { Keyset } from './keyset.ts';
import { ScanUnit } from './scan-unit.ts';
import { tableShape } from './table-shape.ts';
import type { WalkOptions } from './unit-walk.ts';

/** Failed rows that are handed over at a time. */
const pageRows = 200;

export interface FailureWalkOptions<Row extends Record<string, unknown>>
  extends Pick<
    WalkOptions<Row>,
    'shard' | 'table' | 'key' | 'version' | 'database' | 'store' | 'where' | 'process' | 'outageMs' | 'processMs' | 'stopMs' | 'logger'
  > {
  readonly leases: LeaseTable;
  readonly lease: Lease;
  readonly leaseMs: number;
  /** The id of the last failure to take: rows that fail again have higher ones. */
  readonly last: string;
  /** Ends the walk after the current rows. */
  readonly signal: AbortSignal;
}

/** Counts of failed rows that were handed over again. */
export interface RedriveCounts {
  readonly handled: number;
  /** Rows that failed again. */
  readonly failed: number;
  /** Rows that no longer exist, or no longer match the scan's condition. */
  readonly gone: number;
}

/** Hands the failed rows of one unit over again, under the lease of the unit: no walk of it is under way meanwhile. */
export class FailureWalk<Row extends Record<string, unknown>> {
  readonly #options: FailureWalkOptions<Row>;
  /** Aborts when the lease is lost, when a call took too long, and at the end. */
  readonly #abort = new AbortController();
  #outageSince: number | undefined;

  constructor(options: FailureWalkOptions<Row>) {
    this.#options = options;
  }

  /** @param count called after each page, once it is written */
  async run(count: (counts: RedriveCounts) => void): Promise<void> {
    const { leases, lease, leaseMs, signal, stopMs, shard } = this.#options;
    const kept = keepLease(leases, lease, leaseMs);
    const late = (): void => this.#giveUp(`process did not end the rows within ${stopMs} ms (stopTimeout) after the run was stopped`);
    let timer: ReturnType<typeof startTimer> | undefined;
    const stop = (): void => {
      timer = startTimer(stopMs, late);
    };
    const lose = (): void => this.#abort.abort(kept.lost.reason);
    signal.addEventListener('abort', stop, { once: true });
    kept.lost.addEventListener('abort', lose, { once: true });
    try {
      await this.#walk(count);
    } finally {
      signal.removeEventListener('abort', stop);
      timer?.clear();
      this.#abort.abort(new Error(`the walk of the failed rows of ${shard.name} has ended`));
      const held = await kept.letGo();
      if (held) await leases.release(held).catch(() => undefined);
    }
  }

  async #walk(count: (counts: RedriveCounts) => void): Promise<void> {
    const { database, store, shard, table, key, version, last, signal, leases, lease } = this.#options;
    const [shape, nowMs] = await Promise.all([tableShape(database, shard.tableName(table), key, version), database.now()]);
    const keyset = new Keyset(database, shape);
    const unit = new ScanUnit<Row>({ shard, shape, signal: this.#abort.signal, database, version });
    const where = this.#options.where(nowMs);
    await requireSameMeaning(database, shape.table, where);
    for (let after = '0'; !signal.aborted; ) {
      const taken = await store.failed.page(shard.name, after, last, pageRows);
      if (taken.length === 0) return;
      after = taken.at(-1)?.id ?? last;
      const keys = new Map(taken.map((one) => [JSON.stringify(one.key), one.key]));
      const rows = await keyset.at<Row>([...keys.values()], where);
      const { failures } = rows.length === 0 ? { failures: [] } : await this.#hand(rows, unit);
      const failed = new Set(failures.map(({ row }) => row));
      await store.transaction(async (sql) => {
        await leases.fence(sql, lease);
        await store.failed.settle(sql, shard.name, {
          taken,
          handled: rows.filter((row) => !failed.has(row)).map((row) => keyset.positionOf(row)),
          failures: failures.map(({ row, error }) => ({ key: keyset.positionOf(row), error })),
        });
      });
      count({ handled: rows.length - failed.size, failed: failed.size, gone: Math.max(0, keys.size - rows.length) });
    }
  }

  #hand(rows: readonly Row[], unit: ScanUnit<Row>) {
    const { process, processMs, signal, outageMs, logger, shard } = this.#options;
    return handOver(
      rows,
      (some) =>
        callBounded(() => process(some, unit), {
          ms: processMs,
          signal: this.#abort.signal,
          onLate: () => this.#giveUp(`process did not end a batch of ${some.length} rows within ${processMs} ms (processTimeout)`),
        }),
      {
        signal: this.#abort.signal,
        onOutage: (err) => {
          const now = monotonicMs();
          this.#outageSince ??= now;
          if (now - this.#outageSince > outageMs || signal.aborted) throw err;
          logger.warn({ err, unit: shard.name }, 'rows could not be handled because a service was unavailable; retrying');
        },
        pause: async (ms) => {
          await wait(ms, AbortSignal.any([signal, this.#abort.signal])).catch(() => undefined);
        },
      },
    );
  }

  #giveUp(what: string): void {
    this.#abort.abort(new ProcessTimeoutError(this.#options.shard.name, what));
  }
}
