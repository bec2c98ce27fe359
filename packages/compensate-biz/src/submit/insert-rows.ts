import { compareTexts, type Database, KeyGate, type SqlRunner, statementParts } from '@holdfast/core';
import { gateScope } from '../table/biz-effects.ts';
import { requireColumnsFit } from './column-limits.ts';
import { type InsertStatement, insertStatement } from './insert-statement.ts';
import type { NewRow } from './new-row.ts';

/** Writes rows and returns their ids in order. @throws InvalidArgumentError for a row that an adopted table does not hold */
export async function insertRows(database: Database, sql: SqlRunner, rows: readonly NewRow[]): Promise<string[]> {
  await requireColumnsFit(database, sql, rows);
  return rows.some((row) => row.gate !== null) ? insertGated(database, sql, rows) : insertPlain(database, sql, rows);
}

/** Writes children of a fan-out. No caller needs their ids, so none are read. */
export async function insertChildren(database: Database, sql: SqlRunner, rows: readonly NewRow[]): Promise<void> {
  await requireColumnsFit(database, sql, rows);
  for (const { into, params } of statements(database, rows)) await sql.run(`INSERT ${into}`, params);
}

/**
 * Writes rows of serial types. It locks the gate before the row gets its id, type by type and key by key in one order, as settles do, so that
 * two transactions can't deadlock.
 */
async function insertGated(database: Database, sql: SqlRunner, rows: readonly NewRow[]): Promise<string[]> {
  const gate = new KeyGate(database);
  const ids: string[] = new Array(rows.length);
  const order = rows
    .map((row, at) => ({ row, at }))
    .sort((a, b) => compareTexts(a.row.biz_type, b.row.biz_type) || compareTexts(a.row.gate ?? '', b.row.gate ?? '') || a.at - b.at);
  for (const { row, at } of order) {
    const scope = gateScope(row.biz_type);
    const head = row.gate === null ? null : await gate.lock(sql, scope, row.gate);
    const [id = ''] = await insertPlain(database, sql, [row], head !== null);
    ids[at] = id;
    if (row.gate !== null && head === null) await gate.setHead(sql, scope, row.gate, id);
  }
  return ids;
}

async function insertPlain(database: Database, sql: SqlRunner, rows: readonly NewRow[], blocked: boolean = false): Promise<string[]> {
  const ids: string[] = [];
  for (const { into, params, size } of statements(database, rows, blocked)) {
    if (database.dialect === 'mysql' && sql.insert) {
      ids.push(...(await idsFrom(sql, await sql.insert(`INSERT ${into}`, params), size)));
    } else {
      const inserted = await sql.rows<{ id: string }>(`INSERT ${into} RETURNING ${database.text('id')} AS id`, params);
      ids.push(...inserted.map(({ id }) => id));
    }
  }
  return ids;
}

/** MySQL has no RETURNING, but the ids of one INSERT … VALUES are consecutive, in steps of the server's increment. */
async function idsFrom(sql: SqlRunner, first: string, count: number): Promise<string[]> {
  if (count === 1) return [first];
  const [session] = await sql.rows<{ step: number }>('SELECT @@auto_increment_increment AS step');
  const step = BigInt(session?.step ?? 1);
  return Array.from({ length: count }, (_, i) => (BigInt(first) + BigInt(i) * step).toString());
}

function* statements(database: Database, rows: readonly NewRow[], blocked: boolean = false): Generator<InsertStatement> {
  if (database.family !== 'sqlite') {
    for (const part of statementParts(database, rows, mostRows)) yield insertStatement(database, part, blocked);
    return;
  }
  // SQLite takes 32,766 parameters; with few different sizes its statements stay prepared.
  for (let from = 0; from < rows.length; ) {
    const left = rows.length - from;
    const size = left >= 100 ? 100 : left >= 10 ? 10 : 1;
    yield insertStatement(database, rows.slice(from, from + size), blocked);
    from += size;
  }
}

const mostRows = { rows: 1_000 };

/** Returns whether one statement writes the rows, which then needs no transaction. Call it when the server is known: after `describe`. */
export function fitsOneStatement(database: Database, rows: readonly NewRow[]): boolean {
  if (rows.length <= 1) return true;
  if (database.family === 'sqlite' || rows.some((row) => row.gate !== null)) return false;
  return statementParts(database, rows, mostRows).length === 1;
}
