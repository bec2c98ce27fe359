import type { Database } from './database.ts';

/** Rows per statement, so that none holds its locks for long. */
const batch = 1_000;

/**
 * Deletes the rows whose `column`, epoch ms, is below `before`, an SQL expression; the oldest first, a thousand per statement and transaction.
 * The table needs an index that begins with the column. Returns the number of deleted rows. Once `signal` has aborted, it
 * ends after the statement in hand.
 * @param table a name as `database.table()` returns it
 */
export async function deleteOlder(
  database: Database,
  table: string,
  column: string,
  before: string,
  signal?: AbortSignal,
): Promise<number> {
  const old = `${column} < ${before}`;
  const statement = {
    postgres: `DELETE FROM ${table} WHERE ctid = ANY(ARRAY(SELECT ctid FROM ${table} WHERE ${old} ORDER BY ${column} LIMIT ${batch} FOR UPDATE SKIP LOCKED))`,
    mysql: `DELETE FROM ${table} WHERE ${old} ORDER BY ${column} LIMIT ${batch}`,
    sqlite: `DELETE FROM ${table} WHERE rowid IN (SELECT rowid FROM ${table} WHERE ${old} ORDER BY ${column} LIMIT ${batch})`,
  }[database.family];
  let total = 0;
  for (;;) {
    const count = await database.run(statement);
    total += count;
    if (count < batch || signal?.aborted) return total;
  }
}
