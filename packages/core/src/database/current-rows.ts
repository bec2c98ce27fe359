import { TransientDatabaseError } from '../errors/errors.ts';
import type { Database } from './database.ts';
import { forUpdate } from './dialect-sql.ts';
import type { SqlRunner } from './sql-runner.ts';

/** A statement that reads rows by their keys, with `key` among its columns; `lock` is its end. */
export type ReadByKey = (keys: readonly string[], lock: string) => { readonly sql: string; readonly params: readonly unknown[] };

/**
 * Reads the rows on which a decision rests as they are now, in a transaction that may show them as they were when it began. It reads them in the
 * transaction and outside of it. A row that is the same in both needs no lock, so that nobody waits for the end of the transaction: a lock on a
 * row that is not there would hold up every insert on MySQL. Others were changed by the transaction itself or since it began: these it locks.
 * MySQL then returns them as they are. PostgreSQL refuses, and so does MariaDB with snapshot isolation, what others have changed.
 * @throws TransientDatabaseError if the database refuses, or if PostgreSQL does not show a row that is newer than the snapshot
 */
export async function currentRows<Row extends { readonly key: string }>(
  database: Database,
  sql: SqlRunner,
  keys: readonly string[],
  read: ReadByKey,
): Promise<readonly Row[]> {
  if (keys.length === 0) return [];
  const plain = read(keys, '');
  const inside = await sql.rows<Row>(plain.sql, plain.params);
  if (!(await readsSnapshot(database, sql))) return inside;
  const outside = byKey(await database.rows<Row>(plain.sql, plain.params));
  const here = byKey(inside);
  const unsure = keys.filter((key) => JSON.stringify(here.get(key)) !== JSON.stringify(outside.get(key)));
  if (unsure.length === 0) return inside;
  const locking = read(unsure, forUpdate(database));
  const locked = byKey(await sql.rows<Row>(locking.sql, locking.params));
  const newer = database.family === 'postgres' ? unsure.find((key) => outside.has(key) && !locked.has(key)) : undefined;
  if (newer !== undefined)
    throw new TransientDatabaseError(
      `The transaction conflicted with another: what it needs to know about ${newer} was written after its snapshot was taken. Run it again from its start.`,
      undefined,
    );
  return [...inside.filter(({ key }) => !unsure.includes(key)), ...locked.values()];
}

/**
 * Returns whether the transaction may show rows as they were when it began. On MySQL and MariaDB, which do not tell the level of a transaction,
 * any transaction of the caller's may. SQLite refuses to write after another has written since.
 */
export async function readsSnapshot({ family }: Database, sql: SqlRunner): Promise<boolean> {
  if (!sql.ofCaller || family === 'sqlite') return false;
  if (family === 'mysql') return true;
  const [row] = await sql.rows<{ level: string }>("SELECT current_setting('transaction_isolation') AS level");
  return row?.level !== 'read committed';
}

function byKey<Row extends { readonly key: string }>(rows: readonly Row[]): ReadonlyMap<string, Row> {
  return new Map(rows.map((row) => [row.key, row]));
}
