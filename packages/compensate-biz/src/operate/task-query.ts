import {
  type BulkFilter,
  type Database,
  dateMs,
  InvalidArgumentError,
  idText,
  keyText,
  type ListQuery,
  pageLimit,
  requireFilters,
  timestampAt,
} from '@holdfast/core';
import { parentType } from '../table/parent-type.ts';

/** The statuses of a row. */
export const taskStatuses = ['WAIT_HANDLE', 'SCHEDULED', 'BLOCKED', 'PROCESSING', 'SUCCESS', 'FAILED', 'CANCELLED'] as const;
/** The status of a row. */
export type TaskStatus = (typeof taskStatuses)[number];

/** Selects rows by what they are for. `bizId`, `subject` and `tenant` have an index each. */
export interface TaskFilter<Type extends string = string> {
  readonly type?: Type;
  readonly bizId?: string | number | bigint;
  readonly subject?: string;
  readonly tenant?: string;
}

/** Selects rows for {@link CompensateBiz.find}. */
export interface TaskQuery<Type extends string = string> extends TaskFilter<Type> {
  readonly status?: TaskStatus;
  /** Only rows with a greater id: the id of the last row of the page before. */
  readonly after?: string;
  /** Default 50, at most 1,000. */
  readonly limit?: number;
}

/** Selects rows for {@link CompensateBiz.redrive}. Without any field: every FAILED row. */
export interface RedriveFilter<Type extends string = string> extends TaskFilter<Type> {
  /** Default `FAILED`. */
  readonly status?: 'FAILED' | 'CANCELLED';
  /** Why the rows are FAILED. Default: whatever the reason. */
  readonly reason?: 'rejected' | 'exhausted' | 'crash-loop';
  /** Only rows that became FAILED (or CANCELLED) at this time or later. */
  readonly failedAfter?: Date;
  /** Only rows that became FAILED (or CANCELLED) before this time. */
  readonly failedBefore?: Date;
}

const filters = ['kind', 'key', 'subject', 'tenant'] as const;

/** A query in the words of every package. */
export function listQuery({ type, bizId, ...rest }: TaskQuery): ListQuery {
  return { ...rest, ...(type === undefined ? {} : { kind: type }), ...(bizId === undefined ? {} : { key: String(bizId) }) };
}

/** A filter in the words of every package. */
export function bulkFilter({ type, bizId, ...rest }: RedriveFilter): BulkFilter {
  return { ...rest, ...(type === undefined ? {} : { kind: type }), ...(bizId === undefined ? {} : { key: String(bizId) }) };
}

/** A condition on rows, and its parameters. */
export interface TaskCondition {
  readonly sql: string;
  readonly params: readonly unknown[];
}

/** The condition, and the number of rows, of a page. @throws InvalidArgumentError */
export function pageCondition(query: ListQuery): TaskCondition & { readonly limit: number } {
  const limit = pageLimit(query);
  requireFilters('compensate-biz', query, filters);
  const { sql, params } = conditions(query, taskStatuses);
  return { sql: [`id > ${idText('after', query.after ?? '0')}`, ...sql].join(' AND '), params, limit };
}

/** The condition of a change in bulk, and the status that it changes. @throws InvalidArgumentError */
export function bulkCondition(
  database: Database,
  filter: BulkFilter,
  redrivable: readonly string[],
): TaskCondition & { readonly status: string } {
  requireFilters('compensate-biz', filter, [...filters, 'reason', 'failedAfter', 'failedBefore']);
  const status = filter.status ?? redrivable[0] ?? '';
  const { sql, params } = conditions({ ...filter, status }, redrivable);
  if (filter.kind === parentType)
    throw new InvalidArgumentError(
      `Rows of the type ${parentType} can't be redriven: a fan-out that was cancelled is not continued. Start another with a new key, or redrive its children by their type.`,
    );
  if (status === 'CANCELLED') sql.push(`biz_type <> '${parentType}'`);
  if (filter.reason !== undefined) {
    sql.push('dead_reason = ?');
    params.push(keyText('reason', filter.reason, 20));
  }
  for (const [name, operator] of [
    ['failedAfter', '>='],
    ['failedBefore', '<'],
  ] as const) {
    const time = filter[name];
    if (time !== undefined) sql.push(`updated_at ${operator} ${timestampAt(database.family, dateMs(name, time))}`);
  }
  return { sql: sql.join(' AND '), params, status };
}

function conditions(
  { status, kind, key, subject, tenant }: ListQuery,
  statuses: readonly string[],
): { readonly sql: string[]; readonly params: unknown[] } {
  const sql: string[] = [];
  const params: unknown[] = [];
  if (status !== undefined) {
    if (!statuses.includes(status))
      throw new InvalidArgumentError(`status is ${JSON.stringify(status)}; give one of ${statuses.join(', ')}.`);
    // A literal, so that it matches the condition of a partial index.
    sql.push(`status = '${status}'`);
  }
  if (kind !== undefined) {
    sql.push('biz_type = ?');
    params.push(keyText('type', kind, 100));
  }
  if (key !== undefined) {
    sql.push('biz_id = ?');
    params.push(keyText('bizId', key));
  }
  if (subject !== undefined) {
    sql.push('subject = ?');
    params.push(keyText('subject', subject));
  }
  if (tenant !== undefined) {
    // The condition of the partial index, in its words.
    sql.push(tenant === '' ? "tenant = ''" : "tenant = ? AND tenant <> ''");
    if (tenant !== '') params.push(keyText('tenant', tenant, 100));
  }
  return { sql, params };
}
