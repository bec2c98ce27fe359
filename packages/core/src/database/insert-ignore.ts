import type { Database } from './database.ts';
import { insertNew } from './dialect-sql.ts';

/** An `INSERT` of one row that does nothing if its key exists. It waits for a transaction that is inserting the same key. */
export function insertIgnore(database: Database, table: string, columns: readonly string[]): string {
  const values = columns.map(() => '?').join(', ');
  return insertNew(database, `INTO ${table} (${columns.join(', ')}) VALUES (${values})`);
}
