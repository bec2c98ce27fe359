import type { Database } from './database.ts';

/** `INSERT` of one row that does nothing when its key exists. Waits for a transaction that is inserting the same key. */
export function insertIgnore(database: Database, table: string, columns: readonly string[]): string {
  const values = columns.map(() => '?').join(', ');
  const into = `INTO ${table} (${columns.join(', ')}) VALUES (${values})`;
  return database.family === 'mysql' ? `INSERT IGNORE ${into}` : `INSERT ${into} ON CONFLICT DO NOTHING`;
}
