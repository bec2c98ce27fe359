import type { SqlRunner } from '@holdfast/core';

/** Inserts one row and returns the id that the database gave it, as text. */
export async function insertRow(sql: SqlRunner, table: string, values: Readonly<Record<string, unknown>>): Promise<string> {
  const columns = Object.keys(values);
  return insertedId(
    sql,
    `INSERT INTO ${table} (${columns.join(', ')}) VALUES (${columns.map(() => '?').join(', ')})`,
    Object.values(values),
  );
}

/** Runs an INSERT of one row and returns the id that the database gave it, as text. */
export async function insertedId(sql: SqlRunner, statement: string, params: readonly unknown[]): Promise<string> {
  if (sql.dialect === 'mysql' || sql.dialect === 'mariadb') {
    await sql.run(statement, params);
    const [row] = await sql.rows<{ id: string }>('SELECT CAST(LAST_INSERT_ID() AS CHAR) AS id');
    return String(row?.id);
  }
  const [row] = await sql.rows<{ id: string | number }>(`${statement} RETURNING CAST(id AS TEXT) AS id`, params);
  return String(row?.id);
}

/** Reads the database's clock, in epoch ms, in the transaction. */
export async function nowIn(sql: Pick<SqlRunner, 'rows'>): Promise<number> {
  const [row] = await sql.rows<{ now: string | number }>('SELECT {now} AS now');
  return Number(row?.now);
}

/** Tells whether a text can be the id of a row. Any other text would make the database report an error. */
export function isId(text: unknown): text is string {
  return typeof text === 'string' && /^[1-9]\d{0,17}$/.test(text);
}
