import type { Database } from './database.ts';
import type { SqlRunner } from './sql-runner.ts';

/** The columns of a table in their order, with their declared types in lower case; empty if the table does not exist. */
export function tableColumns(database: Database, sql: Pick<SqlRunner, 'rows'>, table: string): Promise<Map<string, string>> {
  return namedColumns(database, sql, `${database.tablePrefix}${table}`);
}

/** As {@link tableColumns}, for a name that has its prefix. */
export async function namedColumns(database: Database, sql: Pick<SqlRunner, 'rows'>, name: string): Promise<Map<string, string>> {
  let rows: { name: string; type: string }[];
  if (database.family === 'sqlite') {
    rows = await sql.rows('SELECT name, lower(type) AS type FROM pragma_table_info(?)', [name]);
  } else if (database.family === 'postgres') {
    rows = await sql.rows(
      'SELECT column_name AS name, data_type AS type FROM information_schema.columns WHERE table_name = ? AND table_schema = COALESCE(?, current_schema()) ORDER BY ordinal_position',
      [name, database.schema ?? null],
    );
  } else {
    rows = await sql.rows(
      'SELECT column_name AS name, column_type AS type FROM information_schema.columns WHERE table_name = ? AND table_schema = DATABASE() ORDER BY ordinal_position',
      [name],
    );
  }
  return new Map(rows.map((row) => [row.name, row.type]));
}

/** The names of the columns of a table that may be NULL. */
export async function nullableColumns(database: Database, sql: Pick<SqlRunner, 'rows'>, table: string): Promise<ReadonlySet<string>> {
  const name = `${database.tablePrefix}${table}`;
  const rows: { name: string }[] =
    database.family === 'sqlite'
      ? await sql.rows('SELECT name FROM pragma_table_info(?) WHERE "notnull" = 0 AND pk = 0', [name])
      : await sql.rows(
          `SELECT column_name AS name FROM information_schema.columns WHERE is_nullable = 'YES' AND table_name = ? AND table_schema = ${database.family === 'mysql' ? 'DATABASE()' : 'COALESCE(?, current_schema())'}`,
          database.family === 'mysql' ? [name] : [name, database.schema ?? null],
        );
  return new Set(rows.map((row) => row.name));
}
