import type { StoredError } from '../errors/stored-error.ts';
import { insertAttempts, type SettleHook, type Settlement } from './settle-rows.ts';
import type { ClaimedRow, TableSql, WorkRecord } from './table-sql.ts';

/** How rows are judged whose lease is over. */
export interface RescueOptions {
  /** After how many starts in a row without a verdict a row of this kind is DEAD (crash-loop). */
  readonly maxLost: (kind: string) => number;
  /** Rows set RUNNING by code that knows no lease are taken back when untouched for this long. */
  readonly adoptAfterMs: number;
  /** Rows per transaction. Default 1,000. */
  readonly limit?: number;
  /** Runs in the transaction; rescued rows come as `release`, those given up as `dead`. */
  readonly hook?: SettleHook;
}

/** What became of rows whose lease was over. */
export interface Rescued {
  readonly rescued: number;
  readonly dead: number;
}

/**
 * Takes back rows whose lease has expired, locked ones skipped, by the index on leases (MySQL, MariaDB: on the status, since few rows run). A row over its limit of lost
 * starts is DEAD; the others are READY again, as suspects. One transaction per batch, until none is left.
 */
export async function rescueRows(sql: TableSql, options: RescueOptions): Promise<Rescued> {
  const limit = options.limit ?? 1_000;
  const running = `status = ${sql.state('running')}`;
  const expired = `${running} AND lease_until < {now}`;
  // Set RUNNING by older code: judged by when it was last touched.
  const stale = `${running} AND lease_until IS NULL AND updated_at < ${sql.ago(options.adoptAfterMs)}`;
  const total = { rescued: 0, dead: 0 };
  for (const where of [expired, stale]) {
    for (let n = limit; n === limit; ) {
      const ids = await sql.look(where, [], `ORDER BY lease_until LIMIT ${limit}`);
      if (ids.length === 0) break;
      const { rescued, dead } = await rescueBatch(sql, where, ids, options);
      n = rescued + dead;
      total.rescued += rescued;
      total.dead += dead;
    }
  }
  return total;
}

function rescueBatch(sql: TableSql, where: string, ids: readonly string[], options: RescueOptions): Promise<Rescued> {
  const { database, table } = sql;
  return database.transaction(async (x) => {
    const list = sql.ids(ids);
    const records = await x.rows<WorkRecord>(
      `SELECT ${sql.columns()} FROM ${sql.table} WHERE ${list.sql} AND ${where}${sql.skipLocked}`,
      list.params,
    );
    const rows = records.map((record) => sql.row(record, 0));
    const over: ClaimedRow[] = [];
    const under: ClaimedRow[] = [];
    for (const row of rows) (row.lost >= options.maxLost(row.kind) ? over : under).push(row);
    const free = 'version = version + 1, lease_until = NULL, owner = NULL, updated_at = {timestamp}';
    if (under.length > 0) {
      const list = sql.ids(under.map((row) => row.id));
      await x.run(
        `UPDATE ${table}${database.byPrimaryKey} SET status = ${sql.state('ready')}, lost = CASE WHEN lost < 1 THEN 1 ELSE lost END, claim_rank = ${sql.rank('{now}')}, ${free} WHERE ${list.sql}`,
        list.params,
      );
    }
    if (over.length > 0) {
      const list = sql.ids(over.map((row) => row.id));
      await x.run(
        `UPDATE ${table}${database.byPrimaryKey} SET status = ${sql.state('dead')}, dead_reason = 'crash-loop', ${sql.shape.columns.error} = ?, ${free} WHERE ${list.sql}`,
        [JSON.stringify(crashLoop(over[0]?.lost ?? 0)), ...list.params],
      );
    }
    await insertAttempts(
      sql,
      x,
      rows.map((row) => ({ row, outcome: 'lost', error: lostStart })),
    );
    if (options.hook && rows.length > 0) {
      const ended: Settlement[] = [
        ...under.map((row): Settlement => ({ row, keep: true, verdict: { outcome: 'release' } })),
        ...over.map((row): Settlement => ({ row, keep: true, verdict: { outcome: 'dead', reason: 'exhausted', error: lostStart } })),
      ];
      await options.hook(x, ended);
    }
    return { rescued: under.length, dead: over.length };
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
