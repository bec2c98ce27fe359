import type { Database } from './database.ts';
import type { SqlRunner } from './sql-runner.ts';

/**
 * Reads rows that are to be changed by their primary keys, without a lock: in the transaction, or, if it is one of the caller's on MySQL or
 * MariaDB and shows none, outside of it. At REPEATABLE READ, the default there, a statement that looks for rows by anything else, or for one
 * that is not there, locks the gaps around it: every insert into them waits for the end of the transaction.
 */
export async function rowsAtPresent<Row>(
  database: Database,
  sql: SqlRunner,
  statement: string,
  params: readonly unknown[],
): Promise<readonly Row[]> {
  const rows = await sql.rows<Row>(statement, params);
  return rows.length > 0 || !sql.ofCaller || database.family !== 'mysql' ? rows : database.rows<Row>(statement, params);
}
