import { dateMs } from './inspect-table.ts';
import type { BulkFilter } from './inspectable.ts';

/** Conditions on the rows of a table, to be joined with AND, and their parameters in order. */
export interface Conditions {
  readonly sql: string[];
  readonly params: unknown[];
}

/**
 * Makes the conditions of a filter: a row has the given value in each column, and was given up within the given times.
 * @param columns the wanted value by column; a column whose value is `undefined` is not compared
 * @param failed `column`: when a row was given up; `literal`: SQL for a time in ms since 1970 as a value of that column. Default: the number
 * @throws InvalidArgumentError for a time that is not a valid Date
 */
export function filterConditions(
  columns: Readonly<Record<string, string | undefined>>,
  failed?: Pick<BulkFilter, 'failedAfter' | 'failedBefore'> & { readonly column: string; readonly literal?: (ms: number) => string },
): Conditions {
  const sql: string[] = [];
  const params: unknown[] = [];
  for (const [column, value] of Object.entries(columns)) {
    if (value === undefined) continue;
    sql.push(`${column} = ?`);
    params.push(value);
  }
  const { column, failedAfter, failedBefore, literal = String } = failed ?? { column: '' };
  if (failedAfter !== undefined) sql.push(`${column} >= ${literal(dateMs('failedAfter', failedAfter))}`);
  if (failedBefore !== undefined) sql.push(`${column} < ${literal(dateMs('failedBefore', failedBefore))}`);
  return { sql, params };
}
