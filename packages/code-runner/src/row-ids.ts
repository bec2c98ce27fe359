import type { SqlRunner } from '@holdfast/core';

/** Reads the database's clock, in epoch ms, in the transaction. */
export async function nowIn(sql: Pick<SqlRunner, 'rows'>): Promise<number> {
  const [row] = await sql.rows<{ now: string | number }>('SELECT {now} AS now');
  return Number(row?.now);
}

/** Tells whether a text can be the id of a row. Any other text would make the database report an error. */
export function isId(text: unknown): text is string {
  return typeof text === 'string' && /^[1-9]\d{0,17}$/.test(text);
}
