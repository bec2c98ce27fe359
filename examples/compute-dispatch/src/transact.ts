import { type Database, isTransient, type UpdateFromValues, updateFromValues, wait } from '@holdfast/core';
import type { Knex } from 'knex';

/** Runs a transaction, READ COMMITTED, and again if it loses a race (deadlock, serialization failure, lock time-out). */
export async function transact<T>(knex: Knex, fn: (trx: Knex.Transaction) => Promise<T>): Promise<T> {
  const mysql = (knex.client as { dialect: string }).dialect === 'mysql';
  for (let attempt = 1; ; attempt++) {
    try {
      return await knex.transaction(fn, mysql ? { isolationLevel: 'read committed' } : {});
    } catch (error) {
      const raced = isTransient(error) || isTransient((error as { cause?: unknown }).cause);
      if (!raced || attempt === 8) throw error;
      await wait(5 * 2 ** attempt * Math.random());
    }
  }
}

/** Locks rows until the transaction ends. SQLite has one writer, and needs no locks. */
export function locked<Query extends Knex.QueryBuilder>(trx: Knex.Transaction, query: Query, skip: 'skip locked' | 'wait' = 'wait'): Query {
  if ((trx.client as { dialect: string }).dialect === 'sqlite3') return query;
  const locking = query.forUpdate();
  return (skip === 'skip locked' ? locking.skipLocked() : locking) as Query;
}

/**
 * A query of rows that it names by their primary keys. MySQL and MariaDB get the hint of `Database.primaryKeyHint`: for ids that are a large
 * part of a small table they would read all of it, and wait for every row that another transaction has locked.
 */
export function byKey(knex: Knex, table: string) {
  const rows = knex(table);
  const mysql = (knex.client as { dialect: string }).dialect === 'mysql';
  return mysql ? (rows.from(knex.raw('?? FORCE INDEX (PRIMARY)', [table])) as typeof rows) : rows;
}

/** Runs a query with `whereIn` for any number of values, in portions that every database accepts. */
export async function inPortions<Value, Row>(
  values: readonly Value[],
  ask: (some: Value[]) => PromiseLike<readonly Row[]>,
): Promise<Row[]> {
  const rows: Row[] = [];
  for (let from = 0; from < values.length; from += 1_000) rows.push(...(await ask(values.slice(from, from + 1_000))));
  return rows;
}

/** Groups rows by one of their columns. */
export function groupedBy<Row, Key>(rows: readonly Row[], key: (row: Row) => Key): Map<Key, Row[]> {
  const groups = new Map<Key, Row[]>();
  for (const row of rows) {
    const group = groups.get(key(row));
    if (group) group.push(row);
    else groups.set(key(row), [row]);
  }
  return groups;
}

/** Inserts rows of one shape, in portions that every database accepts. */
export async function insertMany(trx: Knex, table: string, rows: readonly object[]): Promise<void> {
  // For SQLite, knex writes the rows as a compound select, which may have 500 terms.
  const portion = (trx.client as { dialect: string }).dialect === 'sqlite3' ? 400 : 1_000;
  for (let from = 0; from < rows.length; from += portion) await trx(table).insert(rows.slice(from, from + portion));
}

/** Updates rows, each with its own values, by one statement; no statement if there are no rows. */
export async function updateMany(database: Database, trx: Knex.Transaction, update: UpdateFromValues): Promise<void> {
  if (update.rows.length === 0) return;
  const { sql, params } = updateFromValues(database, update);
  await (await database.within(trx, 'updateMany')).run(sql, params);
}

/** The time by the database's clock, within a transaction. */
export async function nowIn(database: Database, trx: Knex.Transaction): Promise<number> {
  const [row] = await (await database.within(trx, 'nowIn')).rows<{ now: string | number }>('SELECT {now} AS now');
  return Number(row?.now);
}
