/** Writes a time as the driver does, in the time zone of its connection. */
export type TimeText = (time: Date) => string;

/**
 * Meaning of a backslash in a text, by connection. `escapes`: as an escape, on the loops' connections, whose `sql_mode` is set. `unknown`: on
 * the caller's connections, where NO_BACKSLASH_ESCAPES may be set.
 */
export type Backslash = 'escapes' | 'unknown';

/**
 * Puts the values into the statement, so that every `sql_mode` reads the text in the same way. The driver's own escaping is not safe under
 * NO_BACKSLASH_ESCAPES: it doubles backslashes, which then count twice, and writes `\'` for a quote, which then ends the text. Here a quote
 * is doubled. A text with a backslash is written as hexadecimal bytes where the mode is unknown; that is twice as long.
 *
 * @throws TypeError for a value that has no literal, and if the number of values is not that of the marks
 */
export function mysqlText(sql: string, values: readonly unknown[], backslash: Backslash, timeText: TimeText): string {
  if (values.length === 0) return sql;
  const parts = sql.split('?');
  if (parts.length !== values.length + 1)
    throw new TypeError(`${values.length} values for ${parts.length - 1} marks in: ${sql.slice(0, 120)}`);
  let text = parts[0] ?? '';
  for (let i = 0; i < values.length; i++) text += literal(values[i], backslash, timeText) + parts[i + 1];
  return text;
}

function literal(value: unknown, backslash: Backslash, timeText: TimeText): string {
  switch (typeof value) {
    case 'string':
      return textLiteral(value, backslash);
    case 'number':
      if (Number.isFinite(value)) return String(value);
      break;
    case 'bigint':
    case 'boolean':
      return String(value);
    case 'undefined':
      return 'NULL';
    default:
      if (value === null) return 'NULL';
      if (value instanceof Date) return timeText(value);
      if (value instanceof Uint8Array) return `X'${Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('hex')}'`;
  }
  throw new TypeError(
    `A value of type ${typeof value} (${String(value)}) has no literal in SQL; pass a string, number, bigint, boolean, Date, Uint8Array or null.`,
  );
}

function textLiteral(value: string, backslash: Backslash): string {
  let text = value;
  if (text.includes('\\')) {
    if (backslash === 'unknown') return `_utf8mb4 X'${Buffer.from(text).toString('hex')}'`;
    text = text.replaceAll('\\', '\\\\');
  }
  return `'${text.includes("'") ? text.replaceAll("'", "''") : text}'`;
}
