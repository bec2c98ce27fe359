import type { Database } from './database.ts';
import type { SqlRunner } from './sql-runner.ts';

/** Columns of a table in their order, with their declared types in lower case; empty if there is no such table. */
export async function tableColumns(database: Database, look: Pick<SqlRunner, 'rows'>, table: string): Promise<Map<string, string>> {
  const name = `${database.tablePrefix}${table}`;
  let rows: { name: string; type: string }[];
  if (database.family === 'sqlite') {
    rows = await look.rows('SELECT name, lower(type) AS type FROM pragma_table_info(?)', [name]);
  } else if (database.family === 'postgres') {
    rows = await look.rows(
      'SELECT column_name AS name, data_type AS type FROM information_schema.columns WHERE table_name = ? AND table_schema = COALESCE(?, current_schema()) ORDER BY ordinal_position',
      [name, database.schema ?? null],
    );
  } else {
    rows = await look.rows(
      'SELECT column_name AS name, column_type AS type FROM information_schema.columns WHERE table_name = ? AND table_schema = DATABASE() ORDER BY ordinal_position',
      [name],
    );
  }
  return new Map(rows.map((row) => [row.name, row.type]));
}
