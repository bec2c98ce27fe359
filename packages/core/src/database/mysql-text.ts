/** Writes a time as the driver would, in the time zone that its connection is configured for. */
export type TimeText = (time: Date) => string;

/**
 * How a connection reads a backslash in a text. `escapes`: as MySQL does by default, on connections whose `sql_mode` we have set ourselves.
 * `unknown`: on those of the caller, where NO_BACKSLASH_ESCAPES may stand.
 */
export type Backslash = 'escapes' | 'unknown';

/**
 * A statement with its values written into it, the same under every `sql_mode`. The driver doubles backslashes, which
 * NO_BACKSLASH_ESCAPES takes for two, and writes `\'` for a quote, which then ends the text: a value could leave its place. Here a
 * quote is doubled, which every mode reads alike, and a text with a backslash in it is written as its bytes where the mode is unknown:
 * twice as long.
 *
 * @throws TypeError for a value that has no literal, and when there are more or fewer values than marks
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
  throw new TypeError(`${String(value)} (${typeof value}) has no literal in SQL.`);
}

function textLiteral(value: string, backslash: Backslash): string {
  let text = value;
  if (text.includes('\\')) {
    if (backslash === 'unknown') return `_utf8mb4 X'${Buffer.from(text).toString('hex')}'`;
    text = text.replaceAll('\\', '\\\\');
  }
  return `'${text.includes("'") ? text.replaceAll("'", "''") : text}'`;
}
