import type { Database } from './database.ts';

/** Columns of a {@link valuesTable} by name. `id` is a 64-bit integer given as decimal text. */
export type ValueTypes = Readonly<Record<string, 'id' | 'integer' | 'text'>>;

/** A row of a {@link valuesTable} by column. */
export type Values = Readonly<Record<string, string | number | null | undefined>>;

const sqlTypes = {
  postgres: { id: 'bigint', integer: 'bigint', text: 'text' },
  mysql: { id: 'BIGINT', integer: 'BIGINT', text: 'LONGTEXT' },
  sqlite: { id: 'INTEGER', integer: 'INTEGER', text: 'TEXT' },
} as const;

/**
 * Makes a table `u` of plain values, to join or select from: one parameter, and the same statement for any number of rows. A value that is
 * `null` or absent is NULL.
 */
export function valuesTable(
  database: Database,
  types: ValueTypes,
  rows: readonly Values[],
): { readonly sql: string; readonly param: string } {
  const names = Object.entries(types).map(([name, type]) => ({ name, type: sqlTypes[database.family][type] }));
  // MySQL reads a JSON null as the text 'null', so nulls are left out. Elsewhere there is no replacer: it takes three times as long.
  const param =
    database.family === 'mysql' ? JSON.stringify(rows, (_, value) => (value === null ? undefined : value)) : JSON.stringify(rows);
  if (database.family === 'postgres')
    return { sql: `json_to_recordset(?::json) AS u(${names.map(({ name, type }) => `${name} ${type}`).join(', ')})`, param };
  if (database.family === 'sqlite')
    return {
      sql: `(SELECT ${names.map(({ name, type }) => `CAST(json_extract(value, '$.${name}') AS ${type}) AS ${name}`).join(', ')} FROM json_each(?)) AS u`,
      param,
    };
  return {
    sql: `JSON_TABLE(?, '$[*]' COLUMNS (${names.map(({ name, type }) => `${name} ${type} PATH '$.${name}'`).join(', ')})) AS u`,
    param,
  };
}
