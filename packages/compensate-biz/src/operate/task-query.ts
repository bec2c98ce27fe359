import {
  type BulkFilter,
  type Database,
  filterConditions,
  InvalidArgumentError,
  idText,
  keyAsText,
  keyText,
  type ListQuery,
  pageLimit,
  requireFilters,
  shownValue,
  timestampAt,
} from '@holdfast/core';
import { parentType } from '../table/parent-type.ts';
import { type TaskStatus, taskStatuses } from '../table/statuses.ts';

/** Selects rows by what they are for. `bizId`, `subject` and `tenant` have an index each. */
export interface TaskFilter<Type extends string = string> {
  /** Default: every type. */
  readonly type?: Type;
  /** Default: every `bizId`. */
  readonly bizId?: string | number | bigint;
  /** Default: every subject. */
  readonly subject?: string;
  /** Default: every tenant. `''`: rows without a tenant. */
  readonly tenant?: string;
}

/** Selects rows for {@link CompensateBiz.find}. */
export interface TaskQuery<Type extends string = string> extends TaskFilter<Type> {
  /** Default: every status. */
  readonly status?: TaskStatus;
  /** Only rows with a greater id: the id of the last row of the page before. Default: from the first row. */
  readonly after?: string;
  /** Default 50, at most 1,000. */
  readonly limit?: number;
}

/** Selects rows for {@link CompensateBiz.redrive}. Without any field: every FAILED row. */
export interface RedriveFilter<Type extends string = string> extends TaskFilter<Type> {
  /** Default `FAILED`. */
  readonly status?: 'FAILED' | 'CANCELLED';
  /** Why the rows are FAILED. Default: every reason. */
  readonly reason?: 'rejected' | 'exhausted' | 'crash-loop';
  /** Only rows that became FAILED (or CANCELLED) at this time or later. Default: no limit. */
  readonly failedAfter?: Date;
  /** Only rows that became FAILED (or CANCELLED) before this time. Default: no limit. */
  readonly failedBefore?: Date;
}

const filters = ['kind', 'key', 'subject', 'tenant'] as const;

/** A query for tasks as the query that every package has: `kind` for the type, `key` for the `bizId`. */
export function listQuery({ type, bizId, ...rest }: TaskQuery): ListQuery {
  return { ...rest, ...(type === undefined ? {} : { kind: type }), ...(bizId === undefined ? {} : { key: keyAsText('bizId', bizId) }) };
}

/** A filter of tasks as the filter that every package has. */
export function bulkFilter({ type, bizId, ...rest }: RedriveFilter): BulkFilter {
  return { ...rest, ...(type === undefined ? {} : { kind: type }), ...(bizId === undefined ? {} : { key: keyAsText('bizId', bizId) }) };
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
  const { sql, params } = filterConditions(columns(query));
  return { sql: [`id > ${idText('after', query.after ?? '0')}`, ...literals(query, taskStatuses), ...sql].join(' AND '), params, limit };
}

/** The condition of a change in bulk, and the status that it changes. @throws InvalidArgumentError */
export function bulkCondition(
  database: Database,
  filter: BulkFilter,
  redrivable: readonly string[],
): TaskCondition & { readonly status: string } {
  requireFilters('compensate-biz', filter, [...filters, 'reason', 'failedAfter', 'failedBefore']);
  const status = filter.status ?? redrivable[0] ?? '';
  if (filter.kind === parentType)
    throw new InvalidArgumentError(
      `Rows of the type ${parentType} can't be redriven: a fan-out that was cancelled is not continued. Start another with a new key, or redrive its children by their type.`,
    );
  const { sql, params } = filterConditions(
    { ...columns(filter), dead_reason: fits('reason', filter.reason, 20) },
    { ...filter, column: 'updated_at', literal: (ms) => timestampAt(database.family, ms) },
  );
  const tasks = status === 'CANCELLED' ? [`biz_type <> '${parentType}'`] : [];
  return { sql: [...literals({ ...filter, status }, redrivable), ...tasks, ...sql].join(' AND '), params, status };
}

/** The wanted values by column. A row without a tenant is found by a literal: see `literals`. */
function columns({ kind, key, subject, tenant }: ListQuery): Readonly<Record<string, string | undefined>> {
  return {
    biz_type: fits('type', kind, 100),
    biz_id: fits('bizId', key),
    subject: fits('subject', subject),
    tenant: tenant === '' ? undefined : fits('tenant', tenant, 100),
  };
}

/** Conditions on status and tenant in the words of the partial indexes, which need literals. */
function literals({ status, tenant }: ListQuery, statuses: readonly string[]): string[] {
  if (status !== undefined && !statuses.includes(status))
    throw new InvalidArgumentError(`status is ${shownValue(status)}; give one of ${statuses.join(', ')}.`);
  return [
    ...(status === undefined ? [] : [`status = '${status}'`]),
    ...(tenant === undefined ? [] : [tenant === '' ? "tenant = ''" : "tenant <> ''"]),
  ];
}

function fits(name: string, value: string | undefined, max?: number): string | undefined {
  return value === undefined ? undefined : keyText(name, value, max);
}
