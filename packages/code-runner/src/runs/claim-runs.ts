import { type Database, Slots, type SqlRunner, updateFromValues } from '@holdfast/core';
import type { Pool } from './limits.ts';
import { type RawRun, type RunRow, runColumns, runOf } from './run.ts';
import { insertStateEvent, stateContent } from './run-events.ts';
import { budgetScope, slotScope } from './slot-scope.ts';

/** The claimed runs, and the number of slots that were free before. */
export interface Claimed {
  readonly runs: readonly RunRow[];
  readonly free: number;
}

/**
 * Claims queued runs of a pool: at most `wanted`, at most the free slots, and at most what fits into the pool's memory. Slots, runs
 * and events change in one transaction.
 *
 * Runs are claimed by priority, then age. If the next run does not fit into the remaining memory, the pool waits for it; otherwise
 * small runs could keep a large one out for ever.
 */
export async function claimRuns(database: Database, pool: Pool, worker: string, wanted: number): Promise<Claimed> {
  if (wanted < 1) return { runs: [], free: 0 };
  const scope = slotScope(pool.name);
  if (database.family === 'postgres' && pool.memoryBytes === undefined) return claimAtOnce(database, pool, worker, wanted);
  const slots = new Slots(database);
  return database.transaction(async (sql) => {
    const free = await slots.lockFree(sql, scope, wanted);
    if (free.length === 0) return { runs: [], free: 0 };
    const runs = await claimNext(database, sql, pool, worker, free.length);
    if (runs.length === 0) return { runs: [], free: free.length };
    const taken = updateFromValues(database, {
      table: 'holdfast_slot',
      types: { number: 'integer', taker: 'text' },
      rows: runs.map(({ id }, i) => ({ number: free[i], taker: id })),
      set: { holder: 'u.taker' },
      on: `t.slot = u.number AND t.scope = '${scope}'`,
    });
    await sql.run(taken.sql, taken.params);
    return { runs, free: free.length };
  });
}

/**
 * The same in one statement, for Postgres. It locks free slots and the next runs, skips those that others have locked, and uses the
 * index `runner_run_queue`. As five round trips in a transaction it held each slot for three milliseconds more.
 */
async function claimAtOnce(database: Database, pool: Pool, worker: string, wanted: number): Promise<Claimed> {
  const runs = database.table('runner_run');
  const events = database.table('runner_event');
  const slots = database.table('holdfast_slot');
  const scope = slotScope(pool.name);
  const rows = await database.rows<RawRun & { free: string | number }>(
    `WITH f AS MATERIALIZED (SELECT slot FROM ${slots} WHERE scope = '${scope}' AND holder IS NULL ORDER BY slot LIMIT ${Math.trunc(wanted)} FOR UPDATE SKIP LOCKED),
     b AS MATERIALIZED (SELECT id, priority FROM ${runs} r WHERE phase = 'queued' AND pool = '${pool.name}' AND desired = 'running' ORDER BY priority DESC, r.id LIMIT (SELECT count(*) FROM f) FOR UPDATE SKIP LOCKED),
     u AS (UPDATE ${runs} SET ${claimedBy(worker)} WHERE id IN (SELECT id FROM b) RETURNING *),
     t AS (UPDATE ${slots} AS h SET holder = CAST(r.id AS text) FROM (SELECT id, row_number() OVER (ORDER BY b.priority DESC, b.id) AS n FROM b) AS r, (SELECT slot, row_number() OVER (ORDER BY slot) AS n FROM f) AS g WHERE r.n = g.n AND h.scope = '${scope}' AND h.slot = g.slot),
     e AS (${insertStateEvent(events, '?::bytea')})
     SELECT c.free, ${runColumns(database)} FROM (SELECT count(*) AS free FROM f) AS c LEFT JOIN u ON true`,
    [stateContent('claimed', null)],
  );
  return { runs: inOrder(rows.filter(({ id }) => id !== null).map(runOf)), free: Number(rows[0]?.free ?? 0) };
}

/** Moves the next runs of a pool to `claimed`, each with its event. */
async function claimNext(database: Database, sql: SqlRunner, pool: Pool, worker: string, most: number): Promise<RunRow[]> {
  const count = pool.memoryBytes === undefined ? most : await fitting(database, sql, pool, most);
  if (count === 0) return [];
  const best = `SELECT id FROM ${database.table('runner_run')} r WHERE phase = 'queued' AND pool = '${pool.name}' AND desired = 'running' ORDER BY priority DESC, r.id LIMIT ${count}`;
  const taken = { postgres: claimPostgres, sqlite: claimSqlite, mysql: claimMysql }[database.family](
    database,
    sql,
    best,
    claimedBy(worker),
  );
  return inOrder((await taken).map(runOf));
}

function claimPostgres(database: Database, sql: SqlRunner, best: string, claimed: string): Promise<RawRun[]> {
  return sql.rows<RawRun>(
    `WITH u AS (UPDATE ${database.table('runner_run')} SET ${claimed} WHERE id = ANY(ARRAY(${best} FOR UPDATE SKIP LOCKED)) RETURNING *), e AS (${insertStateEvent(database.table('runner_event'), '?::bytea')}) SELECT ${runColumns(database)} FROM u`,
    [stateContent('claimed', null)],
  );
}

async function claimSqlite(database: Database, sql: SqlRunner, best: string, claimed: string): Promise<RawRun[]> {
  const rows = await sql.rows<RawRun>(
    `UPDATE ${database.table('runner_run')} SET ${claimed} WHERE id IN (${best}) RETURNING ${runColumns(database)}`,
  );
  for (const row of rows)
    await sql.run(`INSERT INTO ${database.table('runner_event')} (run_id, seq, at_ms, kind, content) VALUES (?, ?, {now}, 'state', ?)`, [
      row.id,
      row.last_seq,
      stateContent('claimed', null),
    ]);
  return rows;
}

async function claimMysql(database: Database, sql: SqlRunner, best: string, claimed: string): Promise<RawRun[]> {
  const runs = database.table('runner_run');
  const ids = (await sql.rows<{ id: string | number }>(`${best} FOR UPDATE SKIP LOCKED`)).map(({ id }) => String(id));
  if (ids.length === 0) return [];
  const marks = ids.map(() => '?').join(', ');
  await sql.run(`UPDATE ${runs}${database.primaryKeyHint} SET ${claimed} WHERE id IN (${marks})`, ids);
  await sql.run(
    `INSERT INTO ${database.table('runner_event')} (run_id, seq, at_ms, kind, content) SELECT id, last_seq, {now}, 'state', ? FROM ${runs} WHERE id IN (${marks})`,
    [stateContent('claimed', null), ...ids],
  );
  return sql.rows<RawRun>(`SELECT ${runColumns(database)} FROM ${runs} WHERE id IN (${marks})`, ids);
}

/** Counts how many of the next runs fit into the pool's memory. Locks the budget's slot, so that claims of such a pool take turns. */
async function fitting(database: Database, sql: SqlRunner, pool: Pool, most: number): Promise<number> {
  const runs = database.table('runner_run');
  if (database.family !== 'sqlite')
    await sql.rows(`SELECT slot FROM ${database.table('holdfast_slot')} WHERE scope = ? AND slot = 1 FOR UPDATE`, [budgetScope(pool.name)]);
  const [used] = await sql.rows<{ bytes: string | number | null }>(
    `SELECT SUM(memory_bytes) AS bytes FROM ${runs} WHERE pool = ? AND phase IN ('claimed', 'starting', 'running', 'collecting')`,
    [pool.name],
  );
  const waiting = await sql.rows<{ bytes: string | number }>(
    `SELECT ${database.text('memory_bytes')} AS bytes FROM ${runs} r WHERE phase = 'queued' AND pool = ? AND desired = 'running' ORDER BY priority DESC, r.id LIMIT ${most}`,
    [pool.name],
  );
  let left = (pool.memoryBytes ?? 0) - Number(used?.bytes ?? 0);
  const over = waiting.findIndex(({ bytes }) => (left -= Number(bytes)) < 0);
  return over < 0 ? waiting.length : over;
}

function claimedBy(worker: string): string {
  return `phase = 'claimed', worker = '${worker}', fence = fence + 1, claimed_at = {now}, last_seq = last_seq + 1`;
}

function inOrder(runs: RunRow[]): RunRow[] {
  return runs.sort((a, b) => b.priority - a.priority || (BigInt(a.id) < BigInt(b.id) ? -1 : 1));
}
