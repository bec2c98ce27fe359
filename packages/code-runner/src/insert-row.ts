import type { Executor } from '@holdfast/core';

/** Inserts one row and returns the id that the database gave it, as text. */
export async function insertRow(x: Executor, table: string, values: Readonly<Record<string, unknown>>): Promise<string> {
  const columns = Object.keys(values);
  const insert = `INSERT INTO ${table} (${columns.join(', ')}) VALUES (${columns.map(() => '?').join(', ')})`;
  const params = Object.values(values);
  if (x.dialect === 'mysql' || x.dialect === 'mariadb') {
    await x.run(insert, params);
    const [row] = await x.rows<{ id: string }>('SELECT CAST(LAST_INSERT_ID() AS CHAR) AS id');
    return String(row?.id);
  }
  const [row] = await x.rows<{ id: string | number }>(`${insert} RETURNING CAST(id AS TEXT) AS id`, params);
  return String(row?.id);
}

/** Whether a text can be the id of a row; others would be errors of the database. */
export function isId(text: unknown): text is string {
  return typeof text === 'string' && /^[1-9]\d{0,17}$/.test(text);
}
