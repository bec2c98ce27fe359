/** Keywords of JSON Schema whose values are data, and no schemas. */
const data: ReadonlySet<string> = new Set(['const', 'default', 'enum', 'examples']);

/**
 * A JSON Schema without the patterns that most tools can't read: classes of Unicode properties (`\p{L}`), and others that ECMA-262 takes with
 * the flag `u` or `v` only. A pattern in a document has no flags. The schema that checks requests still has them.
 */
export function readablePatterns<Schema>(schema: Schema): Schema {
  if (Array.isArray(schema)) return schema.map(readablePatterns) as Schema;
  if (typeof schema !== 'object' || schema === null) return schema;
  return Object.fromEntries(
    Object.entries(schema)
      .filter(([keyword, value]) => keyword !== 'pattern' || typeof value !== 'string' || isReadable(value))
      .map(([keyword, value]) => [keyword, data.has(keyword) ? value : readablePatterns(value)]),
  ) as Schema;
}

function isReadable(pattern: string): boolean {
  // Without the flag, \p is the letter p, and \u{…} a repeated u.
  if (/(?<!\\)(?:\\\\)*\\(?:[pP]\{|u\{)/.test(pattern)) return false;
  try {
    new RegExp(pattern);
    return true;
  } catch {
    return false;
  }
}
