import { cleanText, InvalidArgumentError, type SqlRunner, shownValue } from '@holdfast/core';

/** Reads the database's clock, in epoch ms, in the transaction. */
export async function nowIn(sql: Pick<SqlRunner, 'rows'>): Promise<number> {
  const [row] = await sql.rows<{ now: string | number }>('SELECT {now} AS now');
  return Number(row?.now);
}

/** The text by which an error shows an id that has no row. */
export function shownId(id: unknown): string {
  return typeof id === 'string' ? cleanText(id).slice(0, 40) : shownValue(id);
}

/** Rows of a page of a list: 50 by default; a number outside of 1 to 200 counts as the nearest of them. @throws InvalidArgumentError */
export function pageSize(limit: unknown = 50): number {
  if (typeof limit !== 'number' || Number.isNaN(limit))
    throw new InvalidArgumentError(`limit is ${shownValue(limit)}; give a whole number from 1 to 200.`);
  return Math.min(Math.max(1, Math.trunc(limit)), 200);
}

/** Tells whether a text can be the id of a row. Any other text would make the database report an error. */
export function isId(text: unknown): text is string {
  return typeof text === 'string' && /^[1-9]\d{0,17}$/.test(text);
}
