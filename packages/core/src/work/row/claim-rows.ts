import type { SqlRunner } from '../../database/sql-runner.ts';
import type { ClaimedRow, KindAndGroup, TableSql, WorkRecord } from './table-sql.ts';

/** What a claim may take. */
export interface ClaimQuery {
  readonly kind: string;
  readonly group: string;
  readonly limit: number;
  readonly owner: string;
  readonly leaseMs: number;
  /** Take rows, of any group, with this many starts that got no verdict: from, up to and including. Default: with none. */
  readonly lost?: { readonly from: number; readonly to: number };
}

/**
 * A bound on a kind that holds across processes. Called in the claim's transaction: it finds out for how many of `wanted`
 * there is room, has them claimed, and marks the room as taken by the rows that it got.
 */
export type ClaimCap = (
  sql: SqlRunner,
  wanted: number,
  claim: (limit: number) => Promise<readonly ClaimedRow[]>,
) => Promise<readonly ClaimedRow[]>;

/**
 * Takes up to `limit` READY rows of one kind and group, most urgent first.
 *
 * Postgres: index `(kind, group, claim_rank, id)`; row locks, those of others skipped. `= ANY(ARRAY(…))` keeps the plan on
 * the primary key: `IN (SELECT …)` hashes the whole table under a generic plan (6.8k against 22.5k rows/s). The LIMIT is a
 * literal, 8 to 12% faster than a parameter for small batches. Lost: picking and updating by `ctid` (the same within 3%,
 * and settling by it 8% slower, since the client then reads and sends ctids); no row locks in the pick (4%, and two
 * claimers then wait for each other).
 * MySQL, MariaDB: one transaction of SELECT … SKIP LOCKED and UPDATE; few claimers and big batches, since their SKIP
 * LOCKED gets slower with connections. SQLite: one statement under the write lock.
 */
export async function claimRows(work: TableSql, query: ClaimQuery, cap?: ClaimCap): Promise<readonly ClaimedRow[]> {
  if (!cap) return claimUpTo(work, query, query.limit);
  return work.database.transaction((sql) => cap(sql, query.limit, (limit) => claimUpTo(work, query, limit, sql)));
}

function claimUpTo(work: TableSql, query: ClaimQuery, limit: number, x?: SqlRunner): Promise<ClaimedRow[]> {
  const { kind, group } = work.shape.columns;
  const { lost } = query;
  // Suspects in the order of their index, so that no claim reads, and on MySQL and MariaDB locks, all of them to sort them.
  const order = lost ? (work.database.family === 'mysql' ? `lost, ${group}, claim_rank` : 'lost, claim_rank') : 'claim_rank';
  const pick = `SELECT id FROM ${work.table} WHERE status = ${work.state('ready')} AND ${kind} = ?${
    lost ? ` AND lost > 0 AND lost ${lost.from === lost.to ? '= ' : '>= ? AND lost <= '}?` : ` AND lost = 0 AND ${group} = ?`
  } ORDER BY ${order}, ${work.table}.id LIMIT ${Math.max(1, Math.trunc(limit))}`;
  const range = lost && (lost.from === lost.to ? [lost.to] : [lost.from, lost.to]);
  return claimPicked(work, pick, range ? [query.kind, ...range] : [query.kind, query.group], query, x, lost ? undefined : query);
}

/** Takes those of the given rows that are READY. None taken means that somebody else has them. */
export async function claimGivenRows(
  work: TableSql,
  ids: readonly string[],
  query: Pick<ClaimQuery, 'kind' | 'owner' | 'leaseMs'>,
  cap?: ClaimCap,
): Promise<readonly ClaimedRow[]> {
  if (ids.length === 0) return [];
  const list = work.ids(ids);
  const pick = `SELECT id FROM ${work.table}${work.database.primaryKeyHint} WHERE ${list.sql} AND lost = 0 AND status = ${work.state('ready')} AND ${work.shape.columns.kind} = ?`;
  const claim = (limit: number, x?: SqlRunner): Promise<ClaimedRow[]> =>
    claimPicked(work, `${pick} LIMIT ${limit}`, [...list.params, query.kind], query, x);
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
    const statement = `UPDATE ${table} SET ${set} WHERE ${where} RETURNING claim_rank, ${work.columns(0, known)}`;
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
