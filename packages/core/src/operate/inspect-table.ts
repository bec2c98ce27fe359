import { wholeNumber } from '../check/whole-number.ts';
import type { Database } from '../database/database.ts';
import type { SqlRunner } from '../database/sql-runner.ts';
import { unfitText } from '../errors/clean-text.ts';
import { InvalidArgumentError } from '../errors/errors.ts';
import { shownValue } from '../errors/shown-value.ts';
import { audit, requireActor } from './audit.ts';
import type { Actor, BulkFilter, ListQuery } from './inspectable.ts';

/** The number of rows that a page of a list holds at most: 50 unless the query says otherwise, 1,000 at most. @throws InvalidArgumentError */
export function pageLimit(query: Pick<ListQuery, 'limit'>): number {
  return wholeNumber('limit', query.limit ?? 50, { most: 1_000 });
}

/** Filters that not every package has. */
type SomeFilter = 'kind' | 'key' | 'subject' | 'tenant' | 'reason' | 'failedAfter' | 'failedBefore';

/**
 * @throws InvalidArgumentError if the query has a filter that the package lacks, since rows that were not asked for would be shown, or changed; or
 *   if the value of a filter is not a text that a column may hold
 */
export function requireFilters(name: string, query: ListQuery & BulkFilter, has: readonly SomeFilter[]): void {
  const known: readonly string[] = ['status', ...has];
  for (const [filter, value] of Object.entries(query))
    if (value !== undefined && !known.includes(filter) && filter !== 'after' && filter !== 'limit')
      throw new InvalidArgumentError(`${name} has no filter ${filter}; it has ${known.join(', ')}.`);
  const { status, kind, key, subject, tenant, reason } = query;
  filterTexts({ status, kind, key, subject, tenant, reason });
}

/**
 * Returns the wanted values of a filter, by name or column, after a check.
 * @throws InvalidArgumentError for a value that is not a text, or is one that no column holds
 */
export function filterTexts<Values extends Readonly<Record<string, string | undefined>>>(values: Values): Values {
  for (const [name, value] of Object.entries(values) as [string, unknown][]) {
    if (value === undefined) continue;
    if (typeof value !== 'string') throw new InvalidArgumentError(`The filter ${name} is ${shownValue(value)}; give a text.`);
    const unfit = unfitText(value);
    if (unfit) throw new InvalidArgumentError(`The filter ${name} holds ${unfit}; remove it.`);
  }
  return values;
}

/** A time as milliseconds since 1970. @throws InvalidArgumentError unless it is a valid Date */
export function dateMs(name: string, value: Date): number {
  if (value instanceof Date && !Number.isNaN(value.getTime())) return value.getTime();
  throw new InvalidArgumentError(`${name} is ${shownValue(value)}; give a valid Date.`);
}

/** Counts the rows of a table of ours, up to `most`, so that the figure costs little however large the table is. */
export async function countUpTo(database: Database, table: string, most: number, where = '1 = 1'): Promise<number> {
  const [row] = await database.rows<{ n: string | number }>(
    `SELECT count(*) AS n FROM (SELECT 1 AS one FROM ${database.table(table)} WHERE ${where} LIMIT ${most}) c`,
  );
  return Number(row?.n ?? 0);
}

/** An operator's change: its name in the audit table (`package:verb`), its target, and the person. */
export interface OperatorChange {
  readonly action: string;
  readonly target: string;
  readonly by: Actor;
}

/**
 * Makes an operator's change in one transaction with its record in the audit table. Nothing is recorded if no row changed.
 * @param change returns the number of rows that it changed
 * @throws InvalidArgumentError if the actor or the reason is missing
 */
export async function changeAudited(
  database: Database,
  { action, target, by }: OperatorChange,
  change: (sql: SqlRunner) => Promise<number>,
): Promise<number> {
  requireActor(by, action.slice(action.indexOf(':') + 1));
  return database.transaction(async (sql) => {
    const changed = await change(sql);
    if (changed > 0) await audit(database, sql, by, action, target);
    return changed;
  });
}
