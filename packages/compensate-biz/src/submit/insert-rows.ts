import { type Database, KeyGate, type SqlRunner } from '@holdfast/core';
import { gateScope } from '../table/biz-effects.ts';
import { agingStepMs } from '../table/biz-table.ts';
import type { NewRow } from './new-row.ts';

const columns = [
  'biz_id',
  'biz_type',
  'context',
  'priority',
  'tenant',
  'schema_version',
  'subject',
  'traceparent',
  'parent_id',
  'child_key',
  'gate',
] as const;
type Column = (typeof columns)[number];

const postgresTypes: Record<Column | 'delay', string> = {
  biz_id: 'varchar',
  biz_type: 'varchar',
  context: 'text',
  priority: 'integer',
  tenant: 'varchar',
  schema_version: 'integer',
  subject: 'varchar',
  traceparent: 'varchar',
  parent_id: 'bigint',
  child_key: 'varchar',
  gate: 'varchar',
  delay: 'bigint',
};

/** Writes rows and returns their ids in order (`undefined` for a child that was there already). */
export async function insertRows(database: Database, sql: SqlRunner, rows: readonly NewRow[]): Promise<(string | undefined)[]> {
  if (rows.some((row) => row.gate !== null)) return insertGated(database, sql, rows);
  return insertPlain(
    database,
    sql,
    rows,
    rows.map((row) => (row.delayMs > 0 ? 'SCHEDULED' : 'WAIT_HANDLE')),
  );
}

/** Rows of serial types: the gate's lock comes before the id, key by key in one order, so that two submits can't deadlock. */
async function insertGated(database: Database, sql: SqlRunner, rows: readonly NewRow[]): Promise<(string | undefined)[]> {
  const gate = new KeyGate(database);
  const ids: (string | undefined)[] = new Array(rows.length);
  const order = rows.map((row, at) => ({ row, at })).sort((a, b) => compare(a.row.gate ?? '', b.row.gate ?? '') || a.at - b.at);
  for (const { row, at } of order) {
    const scope = gateScope(row.biz_type);
    const head = row.gate === null ? null : await gate.lock(sql, scope, row.gate);
    const status = head !== null ? 'BLOCKED' : row.delayMs > 0 ? 'SCHEDULED' : 'WAIT_HANDLE';
    const [id] = await insertPlain(database, sql, [row], [status]);
    ids[at] = id;
    if (row.gate !== null && head === null && id !== undefined) await gate.setHead(sql, scope, row.gate, id);
  }
  return ids;
}

async function insertPlain(
  database: Database,
  sql: SqlRunner,
  rows: readonly NewRow[],
  statuses: readonly string[],
): Promise<(string | undefined)[]> {
  if (rows.length === 0) return [];
  const children = rows.some((row) => row.child_key !== null);
  if (database.family === 'postgres') return insertPostgres(database, sql, rows, statuses, children);
  const ids: (string | undefined)[] = [];
  // SQLite takes 32,766 parameters; a few statement lengths, so that they stay prepared.
  const chunk = database.family === 'sqlite' ? 100 : 1000;
  for (let from = 0; from < rows.length; ) {
    const size =
      rows.length - from >= chunk || database.family === 'mysql'
        ? Math.min(chunk, rows.length - from)
        : Math.min(rows.length - from, rows.length - from >= 10 ? 10 : 1);
    ids.push(...(await insertValues(database, sql, rows.slice(from, from + size), statuses.slice(from, from + size), children)));
    from += size;
  }
  return ids;
}

/**
 * One statement over `unnest`; a column whose rows all agree goes as one value, which saves a third of the time of a
 * thousand rows.
 */
async function insertPostgres(
  database: Database,
  sql: SqlRunner,
  rows: readonly NewRow[],
  statuses: readonly string[],
  children: boolean,
): Promise<(string | undefined)[]> {
  const params: unknown[] = [];
  const arrays: { name: string; values: unknown[]; type: string }[] = [];
  const column = (name: string, type: string, values: unknown[]): string => {
    if (values.every((value) => value === values[0]) && name !== 'context')
      return values[0] === null ? `NULL::${type}` : literal(values[0], type);
    arrays.push({ name, values, type });
    return `u.${name}`;
  };
  const select = columns.map((name) =>
    column(
      name,
      postgresTypes[name],
      rows.map((row) => row[name]),
    ),
  );
  const delay = column(
    'delay',
    'bigint',
    rows.map((row) => row.delayMs),
  );
  const status = column('status', 'varchar', [...statuses]);
  for (const { values } of arrays) params.push(values);
  const from = `unnest(${arrays.map(({ type }) => `?::${type}[]`).join(', ')}) WITH ORDINALITY AS u(${arrays.map(({ name }) => name).join(', ')}, ord)`;
  const priority = select[columns.indexOf('priority')];
  const statement = `INSERT INTO ${database.table('compensate_biz')} (${columns.join(', ')}, status, run_at, claim_rank)
    SELECT ${select.join(', ')}, ${status}, CASE WHEN ${delay} > 0 THEN {now} + ${delay} END, {now} + ${delay} - ${priority} * ${agingStepMs}::bigint FROM ${from} ORDER BY u.ord
    ${children ? 'ON CONFLICT DO NOTHING ' : ''}RETURNING id::text AS id${children ? ', child_key' : ''}`;
  const inserted = await sql.rows<{ id: string; child_key?: string }>(statement, params);
  if (!children) return inserted.map((row) => row.id);
  const byKey = new Map(inserted.map((row) => [row.child_key, row.id]));
  return rows.map((row) => byKey.get(row.child_key ?? ''));
}

function literal(value: unknown, type: string): string {
  if (typeof value === 'number') return `${value}::${type}`;
  // Neither a parameter mark nor a placeholder of ours may stand in it.
  return `('${String(value)
    .replaceAll("'", "''")
    .replaceAll(/[?{\\]/g, (c) => `'||chr(${c.charCodeAt(0)})||'`)}')::${type}`;
}

/** Defaults of the columns that we add. The classic ones of an adopted table may have any default, or none. */
const defaults: Readonly<Partial<Record<Column, unknown>>> = {
  tenant: '',
  schema_version: 1,
  subject: null,
  traceparent: null,
  parent_id: null,
  child_key: null,
  gate: null,
};

/**
 * One statement of many tuples. A column of ours in which every row has the default is left out: MySQL 9.7 takes half as many rows again
 * (by 1,000).
 */
async function insertValues(
  database: Database,
  sql: SqlRunner,
  rows: readonly NewRow[],
  statuses: readonly string[],
  children: boolean,
): Promise<(string | undefined)[]> {
  const mysql = database.family === 'mysql';
  const named = columns.filter((name) => !(name in defaults) || rows.some((row) => row[name] !== defaults[name]));
  // The table's own rank fits rows that are ready now and have no priority, unless a test has moved the clock. An adopted table of SQLite
  // has no rank of its own: 0 would be before every other.
  const ranked =
    mysql &&
    database.clockOffsetMs === 0 &&
    rows.every((row, i) => row.delayMs === 0 && row.priority === 0 && statuses[i] === 'WAIT_HANDLE');
  const marks = named.map(() => '?').join(', ');
  const tuple = ranked ? `(${marks}, ?)` : `(${marks}, ?, CASE WHEN ? > 0 THEN {now} + ? END, {now} + ?)`;
  const params: unknown[] = [];
  for (const [i, row] of rows.entries()) {
    for (const name of named) params.push(row[name]);
    params.push(statuses[i]);
    if (!ranked) params.push(row.delayMs, row.delayMs, row.delayMs - row.priority * agingStepMs);
  }
  const into = `INTO ${database.table('compensate_biz')} (${named.join(', ')}${ranked ? ', status' : ', status, run_at, claim_rank'}) VALUES ${rows.map(() => tuple).join(', ')}`;
  const head = children ? (mysql ? 'INSERT IGNORE ' : 'INSERT ') : 'INSERT ';
  const tail = children && !mysql ? ' ON CONFLICT DO NOTHING' : '';
  if (database.dialect === 'mysql') {
    await sql.run(`${head}${into}`, params);
    const [row] = await sql.rows<{ id: string }>('SELECT CAST(LAST_INSERT_ID() AS CHAR) AS id');
    // Ids of one INSERT … VALUES follow one another; a server with another step than 1 says so.
    const [step] = await sql.rows<{ step: number }>('SELECT @@auto_increment_increment AS step');
    return rows.map((_, i) => (children ? undefined : (BigInt(row?.id ?? 0) + BigInt(i) * BigInt(step?.step ?? 1)).toString()));
  }
  const inserted = await sql.rows<{ id: string; child_key: string }>(
    `${head}${into}${tail} RETURNING ${database.text('id')} AS id${children ? ', child_key' : ''}`,
    params,
  );
  if (!children) return inserted.map((row) => row.id);
  const byKey = new Map(inserted.map((row) => [row.child_key, row.id]));
  return rows.map((row) => byKey.get(row.child_key ?? ''));
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
