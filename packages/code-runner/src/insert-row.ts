import type { Executor } from '@holdfast/core';

/** Inserts one row and returns the id that the database gave it, as text. */
export async function insertRow(x: Executor, table: string, values: Readonly<Record<string, unknown>>): Promise<string> {
  const columns = Object.keys(values);
  return insertedId(x, `INSERT INTO ${table} (${columns.join(', ')}) VALUES (${columns.map(() => '?').join(', ')})`, Object.values(values));
}

/** Runs an INSERT of one row and returns the id that the database gave it, as text. */
export async function insertedId(x: Executor, sql: string, params: readonly unknown[]): Promise<string> {
  if (x.dialect === 'mysql' || x.dialect === 'mariadb') {
    await x.run(sql, params);
    const [row] = await x.rows<{ id: string }>('SELECT CAST(LAST_INSERT_ID() AS CHAR) AS id');
    return String(row?.id);
  }
  const [row] = await x.rows<{ id: string | number }>(`${sql} RETURNING CAST(id AS TEXT) AS id`, params);
  return String(row?.id);
}

/** Milliseconds since 1970 by the database's clock, in the transaction. */
export async function nowIn(x: Pick<Executor, 'rows'>): Promise<number> {
  const [row] = await x.rows<{ now: string | number }>('SELECT {now} AS now');
  return Number(row?.now);
}

/** Whether a text can be the id of a row; others would be errors of the database. */
export function isId(text: unknown): text is string {
  return typeof text === 'string' && /^[1-9]\d{0,17}$/.test(text);
}
