import { skipLocked } from '../../database/dialect-sql.ts';
import type { StoredError } from '../../errors/stored-error.ts';
import { insertAttempts, type SettleHook, type Settlement } from './settle-rows.ts';
import type { ClaimedRow, TableSql, WorkRecord } from './table-sql.ts';

/** Options of a rescue of rows whose lease has expired. */
export interface RescueOptions {
  /** Returns the number of lost starts in a row after which a row of this kind becomes DEAD (crash-loop). */
  readonly maxLost: (kind: string) => number;
  /** Time without a change, in ms, after which a row is taken back that older code has set RUNNING without a lease. */
  readonly adoptAfterMs: number;
  /** Only rows whose lease has expired within this time, in ms. Default: all. */
  readonly backMs?: number | undefined;
  /** Once it has aborted, the rescue ends after the transaction in hand. */
  readonly signal?: AbortSignal | undefined;
  /** Runs in the transaction. It gets rescued rows with the verdict `release`, and rows that were given up with `dead`. */
  readonly hook?: SettleHook;
}

/** Counts of rows whose lease had expired: READY again, or given up. */
export interface Rescued {
  readonly rescued: number;
  readonly dead: number;
}

const rowsPerTransaction = 1_000;

/**
 * Takes back rows whose lease has expired, and skips locked rows. It finds the rows by the index on leases; on MySQL and MariaDB by their
 * status, since few rows run. A row that has lost too many starts becomes DEAD; the others become READY again, as suspects. It runs one
 * transaction per batch, until no row is left.
 */
export async function rescueRows(work: TableSql, options: RescueOptions): Promise<Rescued> {
  const running = `status = ${work.state('running')}`;
  const { backMs } = options;
  const expired = 'lease_until < {now}';
  // Older code has set these rows RUNNING without a lease: their last change decides.
  const stale = `lease_until IS NULL AND updated_at < ${work.ago(options.adoptAfterMs)}`;
  const total = { rescued: 0, dead: 0 };
  for (const where of [expired, stale]) {
    const since = where === expired && backMs !== undefined;
    for (let n = rowsPerTransaction; n === rowsPerTransaction && !options.signal?.aborted; ) {
      const ids = await work.readIds(
        `${running} AND ${where}${since ? ' AND lease_until >= {now} - ?' : ''}`,
        since ? [backMs] : [],
        `ORDER BY lease_until LIMIT ${rowsPerTransaction}`,
      );
      if (ids.length === 0) break;
      const { rescued, dead } = await rescueBatch(work, where, ids, options);
      n = rescued + dead;
      total.rescued += rescued;
      total.dead += dead;
    }
  }
  return total;
}

function rescueBatch(work: TableSql, where: string, ids: readonly string[], options: RescueOptions): Promise<Rescued> {
  const { database, table } = work;
  return database.transaction(async (sql) => {
    const list = work.ids(ids);
    const records = await sql.rows<WorkRecord>(
      `SELECT ${work.columns()} FROM ${table}${database.primaryKeyHint} WHERE ${list.sql} AND ${work.pinned('running')} AND ${where}${skipLocked(database)}`,
      list.params,
    );
    const rows = records.map((record) => work.row(record, 0));
    const givenUp: ClaimedRow[] = [];
    const rescued: ClaimedRow[] = [];
    for (const row of rows) (row.lost >= options.maxLost(row.kind) ? givenUp : rescued).push(row);
    const free = 'version = version + 1, lease_until = NULL, owner = NULL, updated_at = {timestamp}';
    if (rescued.length > 0) {
      const list = work.ids(rescued.map((row) => row.id));
      await sql.run(
        `UPDATE ${table}${database.primaryKeyHint} SET status = ${work.state('ready')}, lost = CASE WHEN lost < 1 THEN 1 ELSE lost END, claim_rank = ${work.rank('{now}')}, ${free} WHERE ${list.sql}`,
        list.params,
      );
    }
    if (givenUp.length > 0) {
      const list = work.ids(givenUp.map((row) => row.id));
      await sql.run(
        `UPDATE ${table}${database.primaryKeyHint} SET status = ${work.state('dead')}, dead_reason = 'crash-loop', ${work.shape.columns.error} = ?, ${free} WHERE ${list.sql}`,
        [JSON.stringify(crashLoop(givenUp[0]?.lost ?? 0)), ...list.params],
      );
    }
    await insertAttempts(
      work,
      sql,
      rows.map((row) => ({ row, outcome: 'lost', error: lostStart })),
    );
    if (options.hook && rows.length > 0) {
      const ended: Settlement[] = [
        ...rescued.map((row): Settlement => ({ row, keep: true, verdict: { outcome: 'release' } })),
        ...givenUp.map((row): Settlement => ({ row, keep: true, verdict: { outcome: 'dead', reason: 'exhausted', error: lostStart } })),
      ];
      await options.hook(sql, ended);
    }
    return { rescued: rescued.length, dead: givenUp.length };
  });
}

const lostStart: StoredError = {
  name: 'LostStart',
  code: 'lost',
  message: 'The worker that ran this row vanished before it gave a verdict.',
};

function crashLoop(lost: number): StoredError {
  return { ...lostStart, message: `${lostStart.message} That was start ${lost} in a row without one; redrive it once the cause is known.` };
}
