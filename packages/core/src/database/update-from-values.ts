import type { Database } from './database.ts';
import { valueRows } from './value-rows.ts';
import type { Values, ValueTypes } from './values-table.ts';

/** An update of many rows, each with values of its own. */
export interface UpdateFromValues {
  /** The name, without prefix and quotes. Expressions call the table `t` and the values `u`. Values and columns need different names. */
  readonly table: string;
  readonly types: ValueTypes;
  readonly rows: readonly Values[];
  /** Expression by column. */
  readonly set: Readonly<Record<string, string>>;
  /** The condition that joins rows of `t` to rows of `u`. */
  readonly on: string;
  /** Postgres and SQLite: the expressions to return for each changed row. */
  readonly returning?: string;
}

/** Makes one statement that updates each row with values of its own. */
export function updateFromValues(
  database: Database,
  update: UpdateFromValues,
): { readonly sql: string; readonly params: readonly unknown[] } {
  const values = valueRows(database, update.types, update.rows);
  const table = database.table(update.table);
  const mysql = database.family === 'mysql';
  const set = Object.entries(update.set)
    .map(([column, expression]) => `${mysql ? 't.' : ''}${column} = ${expression}`)
    .join(', ');
  const sql = mysql
    ? `UPDATE ${table} AS t JOIN ${values.sql} ON ${update.on} SET ${set}`
    : `UPDATE ${table} AS t SET ${set} FROM ${values.sql} WHERE ${update.on}${update.returning === undefined ? '' : ` RETURNING ${update.returning}`}`;
  return { sql, params: values.params };
}
