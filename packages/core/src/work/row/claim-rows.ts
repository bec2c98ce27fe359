import type { SqlRunner } from '../../database/sql-runner.ts';
import type { ClaimedRow, KindAndGroup, TableSql, WorkRecord } from './table-sql.ts';

/** The rows that a claim may take. */
export interface ClaimQuery {
  readonly kind: string;
  readonly group: string;
  readonly limit: number;
  readonly owner: string;
  readonly leaseMs: number;
  /** Takes rows of this rank and above only; see `Floors`. Default: all. Has no effect with `lost`. */
  readonly from?: number | undefined;
  /** Takes rows of any group that have lost `from` to `to` starts in a row (both included). Default: rows of `group` that have lost none. */
  readonly lost?: { readonly from: number; readonly to: number };
}

/**
 * A limit on a kind that holds across processes. It is called in the transaction of the claim: it finds out how many of `wanted` rows may
 * run, claims them with `claim`, and records the claimed rows as running.
 */
export type ClaimCap = (
  sql: SqlRunner,
  wanted: number,
  claim: (limit: number) => Promise<readonly ClaimedRow[]>,
) => Promise<readonly ClaimedRow[]>;

/**
 * Takes up to `limit` READY rows of one kind and group, most urgent first.
 *
 * Postgres: index `(kind, group, claim_rank, id)`; it locks the rows, and skips rows that are locked. `= ANY(ARRAY(…))` keeps the plan on
 * the primary key: `IN (SELECT …)` hashes the whole table under a generic plan (6.8k against 22.5k rows/s). The LIMIT is a literal, 8 to
 * 12% faster than a parameter for small batches. Measured and rejected: to pick and update by `ctid` (the same within 3%, and to settle by
 * it is 8% slower, since the client then reads and sends ctids); no row locks in the pick (4% faster, but two claimers then wait for each
 * other).
 * MySQL, MariaDB: one transaction of SELECT … SKIP LOCKED and UPDATE. Use few claimers and big batches: their SKIP LOCKED gets slower with
 * the number of connections. SQLite: one statement under the write lock.
 */
export async function claimRows(work: TableSql, query: ClaimQuery, cap?: ClaimCap): Promise<readonly ClaimedRow[]> {
  if (!cap) return claimUpTo(work, query, query.limit);
  return work.database.transaction((sql) => cap(sql, query.limit, (limit) => claimUpTo(work, query, limit, sql)));
}

function claimUpTo(work: TableSql, query: ClaimQuery, limit: number, inside?: SqlRunner): Promise<ClaimedRow[]> {
  const { kind, group } = work.shape.columns;
  const { lost, from } = query;
  // Suspects are claimed in the order of their index. Another order would read all of them, and on MySQL and MariaDB lock all of them.
  const order = lost ? (work.database.family === 'mysql' ? `lost, ${group}, claim_rank` : 'lost, claim_rank') : 'claim_rank';
  const pick = `SELECT id FROM ${work.table} WHERE status = ${work.state('ready')} AND ${kind} = ?${
    lost
      ? ` AND lost > 0 AND lost ${lost.from === lost.to ? '= ' : '>= ? AND lost <= '}?`
      : ` AND lost = 0 AND ${group} = ?${from === undefined ? '' : ' AND claim_rank >= ?'}`
  } ORDER BY ${order}, ${work.table}.id LIMIT ${Math.max(1, Math.trunc(limit))}`;
  const range = lost && (lost.from === lost.to ? [lost.to] : [lost.from, lost.to]);
  const params = range ? [query.kind, ...range] : [query.kind, query.group, ...(from === undefined ? [] : [from])];
  return claimPicked(work, pick, params, query, inside, lost ? undefined : query);
}

/** Claims the given rows that are READY. If it returns none, another worker has claimed them. */
export async function claimGivenRows(
  work: TableSql,
  ids: readonly string[],
  query: Pick<ClaimQuery, 'kind' | 'owner' | 'leaseMs'>,
  cap?: ClaimCap,
): Promise<readonly ClaimedRow[]> {
  if (ids.length === 0) return [];
  const list = work.ids(ids);
  const pick = `SELECT id FROM ${work.table}${work.database.primaryKeyHint} WHERE ${list.sql} AND lost = 0 AND ${work.pinned('ready')} AND ${work.shape.columns.kind} = ?`;
  const claim = (limit: number, inside?: SqlRunner): Promise<ClaimedRow[]> =>
    claimPicked(work, `${pick} LIMIT ${limit}`, [...list.params, query.kind], query, inside);
  if (!cap) return claim(ids.length);
  return work.database.transaction((sql) => cap(sql, ids.length, (limit) => claim(limit, sql)));
}

async function claimPicked(
  work: TableSql,
  pick: string,
  params: readonly unknown[],
  { owner, leaseMs }: Pick<ClaimQuery, 'owner' | 'leaseMs'>,
  inside?: SqlRunner,
  known?: KindAndGroup,
): Promise<ClaimedRow[]> {
  const { database, table } = work;
  const set = `status = ${work.state('running')}, version = version + 1, starts = starts + 1, lost = lost + 1, lease_until = {now} + ?, owner = ?, updated_at = {timestamp}`;
  if (database.family !== 'mysql') {
    const where = database.family === 'postgres' ? `id = ANY(ARRAY(${pick} FOR UPDATE SKIP LOCKED))` : `id IN (${pick})`;
    const statement = `UPDATE ${table} SET ${set} WHERE ${where} RETURNING ${work.columns(0, known)}`;
    const records = await (inside ?? database).rows<WorkRecord>(statement, [leaseMs, owner, ...params]);
    // RETURNING keeps no order, and what is claimed together starts in the order of its ranks.
    records.sort((a, b) => Number(a.claim_rank) - Number(b.claim_rank) || Number(a.id) - Number(b.id));
    return records.map((record) => work.row(record, 1, known));
  }
  const inTransaction = async (sql: SqlRunner): Promise<ClaimedRow[]> => {
    const records = await sql.rows<WorkRecord>(
      `${pick.replace('SELECT id', `SELECT ${work.columns(1, known)}`)} FOR UPDATE SKIP LOCKED`,
      params,
    );
    if (records.length === 0) return [];
    const rows = records.map((record) => work.row(record, 1, known));
    const list = work.ids(rows.map((row) => row.id));
    await sql.run(`UPDATE ${table}${database.primaryKeyHint} SET ${set} WHERE ${list.sql}`, [leaseMs, owner, ...list.params]);
    return rows;
  };
  return inside ? inTransaction(inside) : database.transaction(inTransaction);
}
