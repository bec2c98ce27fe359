import type { Database } from './database.ts';

/** A number, a boolean or a NULL as it is written in a statement, and the comma after each value. */
const smallValueBytes = 24;

/**
 * Splits rows into the parts that one statement each may write: at most `rows` of them, and at most `database.statementBytes` of their
 * values. The order stays. A row that is larger by itself is a part of its own; if it is too large for the server, its statement throws
 * InvalidArgumentError. Call it inside `use`, `transaction` or `within`, where the limit of the server is known.
 *
 * MySQL and MariaDB end the connection of a client that sends more than `max_allowed_packet`, after which nobody can tell the cause.
 * On Postgres a statement of large bodies exceeds the longest text that JavaScript has.
 */
export function statementParts<Row extends object>(
  database: Pick<Database, 'statementBytes'>,
  rows: readonly Row[],
  limit: { readonly rows: number },
): readonly (readonly Row[])[] {
  const most = database.statementBytes;
  if (rows.length > 0 && rows.length <= limit.rows && rowsFit(rows, most)) return [rows];
  const parts: Row[][] = [];
  let part: Row[] = [];
  let bytes = 0;
  for (const row of rows) {
    const own = rowBytes(row);
    if (part.length > 0 && (part.length >= limit.rows || bytes + own > most)) {
      parts.push(part);
      part = [];
      bytes = 0;
    }
    part.push(row);
    bytes += own;
  }
  if (part.length > 0) parts.push(part);
  return parts;
}

/** Whether rows surely fit, without counting the bytes of each text: a character has three at most. Counting costs a tenth of a submit. */
function rowsFit(rows: readonly object[], most: number): boolean {
  let left = most;
  for (const row of rows) {
    for (const name in row) {
      const value = (row as Readonly<Record<string, unknown>>)[name];
      if (typeof value === 'string') left -= 3 * value.length;
      else if (value instanceof Uint8Array) left -= value.byteLength;
      left -= smallValueBytes;
    }
    if (left < 0) return false;
  }
  return true;
}

/** Bytes of the values of a row, before any escaping. */
function rowBytes(row: object): number {
  let bytes = 0;
  for (const value of Object.values(row)) {
    if (typeof value === 'string') bytes += Buffer.byteLength(value);
    else if (value instanceof Uint8Array) bytes += value.byteLength;
    bytes += smallValueBytes;
  }
  return bytes;
}
