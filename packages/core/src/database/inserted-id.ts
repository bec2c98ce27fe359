import type { SqlRunner } from './sql-runner.ts';

/** Inserts one row and returns the id that the database gave it, as text. */
export function insertRow(sql: SqlRunner, table: string, values: Readonly<Record<string, unknown>>): Promise<string> {
  const columns = Object.keys(values);
  const marks = columns.map(() => '?').join(', ');
  return insertedId(sql, `INSERT INTO ${table} (${columns.join(', ')}) VALUES (${marks})`, Object.values(values));
}

/** Runs an INSERT of one row and returns the id that the database gave it, as text. */
export async function insertedId(sql: SqlRunner, statement: string, params: readonly unknown[]): Promise<string> {
  if (sql.insert) return sql.insert(statement, params);
  const [row] = await sql.rows<{ id: string | number }>(`${statement} RETURNING CAST(id AS TEXT) AS id`, params);
  return String(row?.id);
}
