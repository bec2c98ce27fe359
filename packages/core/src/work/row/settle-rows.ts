import type { SqlRunner } from '../../database/sql-runner.ts';
import { updateFromValues } from '../../database/update-from-values.ts';
import type { StoredError } from '../../errors/stored-error.ts';
import type { WorkState } from './states.ts';
import { type ClaimedRow, integer, type TableSql } from './table-sql.ts';
import type { Verdict } from './verdict.ts';

/** A row and the verdict to write. */
export interface Settlement {
  readonly row: ClaimedRow;
  readonly verdict: Verdict;
  /** For `done`: whether the row is kept as DONE or deleted. */
  readonly keep: boolean;
}

/** Runs in the transaction that settles rows, after the statements that settle them. */
export type SettleHook = (sql: SqlRunner, settled: readonly Settlement[]) => Promise<void>;

/**
 * Writes verdicts, each under the version with which its row was claimed. Returns the ids that were still the caller's; the other rows have
 * been taken over, cancelled or redriven, and are not changed. Rows with the same version and verdict are settled by one statement, as are
 * all that are done and most that are released.
 */
export async function settleRows(work: TableSql, settlements: readonly Settlement[], hook?: SettleHook): Promise<Set<string>> {
  if (settlements.length === 0) return new Set();
  const groups = group(work, settlements);
  const [single] = groups;
  const alone = single && groups.length === 1 && single.verdict.outcome === 'done' && hook === undefined;
  if (alone && !readsFirst(work, single) && !settlements.some(leavesAttempts))
    return new Set(await work.database.use((sql) => settleDone(work, sql, single, false)));
  return work.database.transaction(async (sql) => {
    const settled = await settleGroups(work, sql, groups, hook !== undefined);
    const accepted = settlements.filter((settlement) => settled.has(settlement.row.id));
    await recordAttempts(work, sql, accepted);
    await forgetAttempts(work, sql, accepted);
    await hook?.(sql, accepted);
    return settled;
  });
}

/** Settles in an open transaction (which should do nothing after it). Returns the ids that were still the caller's. */
export async function settleRowsIn(work: TableSql, sql: SqlRunner, settlements: readonly Settlement[]): Promise<Set<string>> {
  const settled = await settleGroups(work, sql, group(work, settlements), true);
  const accepted = settlements.filter((settlement) => settled.has(settlement.row.id));
  await recordAttempts(work, sql, accepted);
  await forgetAttempts(work, sql, accepted);
  return settled;
}

async function settleGroups(work: TableSql, sql: SqlRunner, groups: readonly Group[], exact: boolean): Promise<Set<string>> {
  const settled = new Set<string>();
  for (const one of groups) {
    const ids = one.verdict.outcome === 'done' ? await settleDone(work, sql, one, exact) : await settleOther(work, sql, one);
    for (const id of ids) settled.add(id);
  }
  return settled;
}

/**
 * With `exact`, it returns exactly the rows that this statement changed. A transaction with effects needs that: a row that is gone may have
 * been removed by another worker. Without `exact`, a row that is gone counts as settled, and the count of changed rows is, as a rule,
 * enough to tell that all were settled, at no cost.
 */
async function settleDone(work: TableSql, sql: SqlRunner, settled: Group, exact: boolean): Promise<readonly string[]> {
  if (settled.results !== undefined) return settleWithResults(work, sql, settled, settled.results);
  const { ids, version, keep } = settled;
  const list = work.ids(ids);
  const where = `${list.sql} AND version = ${version} AND ${work.pinned('running')}`;
  const head = keep
    ? `UPDATE ${work.table}${work.database.primaryKeyHint} SET status = ${work.state('done')}, lost = 0, lease_until = NULL, updated_at = {timestamp}`
    : work.database.deleteByPrimaryKey(work.table);
  if (exact) return changeExactly(work, sql, head, where, list.params);
  if ((await sql.run(`${head} WHERE ${where}`, list.params)) === ids.length) return ids;
  const left = await sql.rows<{ id: string }>(
    `SELECT ${work.idText} FROM ${work.table} WHERE ${list.sql}${keep ? ` AND version = ${version} AND status = ${work.state('done')}` : ''}`,
    list.params,
  );
  const present = new Set(left.map((row) => row.id));
  return ids.filter((id) => present.has(id) === keep);
}

/** MySQL and MariaDB do not tell which rows a statement has changed, so the rows are locked and read first, in a transaction. */
function readsFirst(work: TableSql, { results }: Group): boolean {
  return results !== undefined && work.database.family === 'mysql';
}

/** As {@link settleDone} with `exact`, for rows that are kept, each with its own result. */
async function settleWithResults(
  work: TableSql,
  sql: SqlRunner,
  { ids, version }: Group,
  results: ReadonlyMap<string, string>,
): Promise<readonly string[]> {
  const { database, shape } = work;
  const running = `version = ${version} AND ${work.pinned('running')}`;
  let held = ids;
  if (database.family === 'mysql') {
    const list = work.ids(ids);
    const locked = await sql.rows<{ id: string }>(
      `SELECT ${work.idText} FROM ${work.table}${database.primaryKeyHint} WHERE ${list.sql} AND ${running} FOR UPDATE`,
      list.params,
    );
    held = locked.map((row) => row.id);
    if (held.length === 0) return [];
  }
  const update = updateFromValues(database, {
    table: shape.table,
    types: { row_id: 'id', row_result: 'text' },
    rows: held.map((id) => ({ row_id: id, row_result: results.get(id) })),
    on: `t.id = u.row_id${database.family === 'mysql' ? '' : ` AND ${running}`}`,
    set: {
      status: work.state('done'),
      lost: '0',
      lease_until: 'NULL',
      updated_at: '{timestamp}',
      [shape.columns.result ?? '']: 'u.row_result',
    },
    returning: work.idText,
  });
  if (database.family === 'mysql') {
    await sql.run(update.sql, update.params);
    return held;
  }
  return (await sql.rows<{ id: string }>(update.sql, update.params)).map((row) => row.id);
}

async function settleOther(work: TableSql, sql: SqlRunner, { ids, version, verdict }: Group): Promise<readonly string[]> {
  const { attempts, error } = work.shape.columns;
  const change = otherChange(verdict);
  const list = work.ids(ids);
  const due = `{now} + ${Math.trunc(change.afterMs)}`;
  const head = `UPDATE ${work.table}${work.database.primaryKeyHint} SET status = ${work.state(change.state)}, ${attempts} = ${attempts} + ${change.attempts}, starts = starts - ${change.refund},
    lost = ${change.refund === 1 ? 'lost - 1' : '0'}, run_at = ${due}, claim_rank = ${work.rank(due)}, lease_until = NULL, owner = NULL,
    ${error} = COALESCE(?, ${error}), dead_reason = ?, updated_at = {timestamp}`;
  return changeExactly(work, sql, head, `${list.sql} AND version = ${version} AND ${work.pinned('running')}`, list.params, [
    change.error === undefined ? null : JSON.stringify(change.error),
    change.deadReason,
  ]);
}

/** Changes rows and returns their ids. Postgres, SQLite: by RETURNING; MySQL, MariaDB: the rows are locked and read first. */
async function changeExactly(
  work: TableSql,
  sql: SqlRunner,
  head: string,
  where: string,
  whereParams: readonly unknown[],
  headParams: readonly unknown[] = [],
): Promise<readonly string[]> {
  if (work.database.family !== 'mysql') {
    const rows = await sql.rows<{ id: string }>(`${head} WHERE ${where} RETURNING ${work.idText}`, [...headParams, ...whereParams]);
    return rows.map((row) => row.id);
  }
  const locked = await sql.rows<{ id: string }>(
    `SELECT ${work.idText} FROM ${work.table}${work.database.primaryKeyHint} WHERE ${where} FOR UPDATE`,
    whereParams,
  );
  const held = locked.map((row) => row.id);
  if (held.length > 0) await sql.run(`${head} WHERE ${work.ids(held).sql}`, headParams);
  return held;
}

async function recordAttempts(work: TableSql, sql: SqlRunner, settlements: readonly Settlement[]): Promise<void> {
  const attempts: Attempt[] = [];
  for (const { row, verdict } of settlements) {
    if (verdict.outcome === 'retry') attempts.push({ row, outcome: 'retry', error: verdict.error });
    else if (verdict.outcome === 'dead') attempts.push({ row, outcome: verdict.reason, error: verdict.error });
  }
  await insertAttempts(work, sql, attempts);
}

/** Returns whether a row is deleted that may have attempts on record: it was started before. */
function leavesAttempts({ row, verdict, keep }: Settlement): boolean {
  return !keep && verdict.outcome === 'done' && row.starts > 1;
}

/** Deletes the attempts of rows that are deleted as they succeed. */
async function forgetAttempts(work: TableSql, sql: SqlRunner, settlements: readonly Settlement[]): Promise<void> {
  if (work.attempts === undefined) return;
  const gone = settlements.filter(leavesAttempts).map(({ row }) => row.id);
  if (gone.length === 0) return;
  const ids = work.ids(gone);
  await sql.run(`DELETE FROM ${work.attempts} WHERE ${ids.sql.replace(/\bid\b/, 'task_id')}`, ids.params);
}

/** A start that failed or was lost. */
export interface Attempt {
  readonly row: ClaimedRow;
  readonly outcome: string;
  readonly error: StoredError;
}

/** Inserts attempts, 200 per statement. */
export async function insertAttempts(work: TableSql, sql: SqlRunner, attempts: readonly Attempt[]): Promise<void> {
  if (work.attempts === undefined) return;
  for (let from = 0; from < attempts.length; from += 200) {
    const some = attempts.slice(from, from + 200);
    const values = some.map(({ row }) => `(${integer(row.id)}, ${row.starts}, ?, ?, {now})`).join(', ');
    await sql.run(
      `INSERT INTO ${work.attempts} (task_id, number, outcome, error, ended_at) VALUES ${values}`,
      some.flatMap(({ outcome, error }) => [outcome, JSON.stringify(error)]),
    );
  }
}

/** Rows that one statement settles. */
interface Group {
  readonly version: number;
  readonly keep: boolean;
  readonly verdict: Verdict;
  readonly ids: string[];
  /** Results by id, of rows that are done and kept. They are settled apart from rows without one. */
  readonly results: Map<string, string> | undefined;
}

function group(work: TableSql, settlements: readonly Settlement[]): Group[] {
  const groups = new Map<string, Group>();
  for (const { row, verdict, keep } of settlements) {
    const result = verdict.outcome === 'done' && keep && work.shape.columns.result !== undefined ? verdict.result : undefined;
    const key =
      verdict.outcome === 'done'
        ? `${row.version}${result !== undefined ? 'r' : keep ? 'k' : 'd'}`
        : `${row.version} ${JSON.stringify(verdict)}`;
    let found = groups.get(key);
    if (!found) {
      found = { version: row.version, keep, verdict, ids: [], results: result === undefined ? undefined : new Map() };
      groups.set(key, found);
    }
    found.ids.push(row.id);
    if (result !== undefined) found.results?.set(row.id, result);
  }
  return [...groups.values()];
}

interface OtherChange {
  readonly state: WorkState;
  readonly attempts: 0 | 1;
  readonly refund: 0 | 1;
  readonly afterMs: number;
  readonly error: StoredError | undefined;
  readonly deadReason: string | null;
}

function otherChange(verdict: Verdict): OtherChange {
  const base = { attempts: 0, refund: 0, afterMs: 0, error: undefined, deadReason: null } as const;
  switch (verdict.outcome) {
    case 'retry':
      return { ...base, state: verdict.afterMs > 0 ? 'scheduled' : 'ready', attempts: 1, afterMs: verdict.afterMs, error: verdict.error };
    case 'dead':
      return { ...base, state: 'dead', attempts: 1, error: verdict.error, deadReason: verdict.reason };
    case 'snooze':
      return { ...base, state: verdict.afterMs > 0 ? 'scheduled' : 'ready', afterMs: verdict.afterMs, error: verdict.reason };
    case 'release':
      return { ...base, state: 'ready', refund: 1 };
    case 'cancel':
      return { ...base, state: 'cancelled', error: verdict.error };
    case 'done':
      return { ...base, state: 'done' };
  }
}
