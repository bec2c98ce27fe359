import {
  audit,
  type BulkCounts,
  type BulkFilter,
  type BulkOptions,
  type BulkRow,
  changeInBulk,
  type Database,
  filterConditions,
  filterTexts,
  forUpdate,
  InvalidArgumentError,
  idList,
  idText,
  requireFilters,
  requireKnown,
  type SqlRunner,
  shownValue,
} from '@holdfast/core';
import { checkedStates, type EndedState } from './ended-states.ts';
import { notSuperseded, setPending } from './steer.ts';

/** Selects notifications that have ended. Without any field: all that ended without an acknowledgement. */
export interface RedriveFilter {
  /** Default `['EXHAUSTED', 'GONE']`. */
  readonly states?: readonly EndedState[];
  /** Id of the endpoint. */
  readonly endpoint?: string;
  readonly tenant?: string;
  readonly subjectId?: string;
  /** The business status that the notification tells of. */
  readonly status?: string;
  readonly reason?: string;
  /** Only notifications that ended at this time or later. */
  readonly failedAfter?: Date;
  /** Only notifications that ended before this time. */
  readonly failedBefore?: Date;
}

/** Makes all notifications that match due now, page by page; superseded ones are left out. Their attempts continue to count: beyond the schedule, each gets one attempt. */
export function redriveEnded(database: Database, filter: RedriveFilter, options: BulkOptions, changed: () => void): Promise<BulkCounts> {
  const { states, sql, params } = conditions(filter);
  return changeInBulk(
    {
      verb: 'redrive',
      read: (after, limit) => readEnded(database, states, sql, params, after, limit),
      change: async (ids, by) => {
        const sent = await database.transaction(async (x) => {
          const some = await resendRows(database, x, ids);
          if (some.length > 0) await audit(database, x, by, 'notifier:redrive', `${some.length} notifications, the last is ${some.at(-1)}`);
          return some;
        });
        if (sent.length > 0) changed();
        return sent;
      },
    },
    options,
  );
}

/** The filter that every package has, as one of notifications. @throws InvalidArgumentError */
export function endedFilter(filter: BulkFilter): RedriveFilter {
  requireFilters('notifier', filter, ['kind', 'subject', 'tenant', 'reason', 'failedAfter', 'failedBefore']);
  const { status, kind, subject, tenant, reason, failedAfter, failedBefore } = filter;
  return {
    ...(status === undefined ? {} : { states: [status as EndedState] }),
    ...(kind === undefined ? {} : { status: kind }),
    ...(subject === undefined ? {} : { subjectId: subject }),
    ...(tenant === undefined ? {} : { tenant }),
    ...(reason === undefined ? {} : { reason }),
    ...(failedAfter === undefined ? {} : { failedAfter }),
    ...(failedBefore === undefined ? {} : { failedBefore }),
  };
}

interface Condition {
  readonly states: readonly EndedState[];
  readonly sql: string;
  readonly params: readonly unknown[];
}

const filterNames = ['states', 'endpoint', 'tenant', 'subjectId', 'status', 'reason', 'failedAfter', 'failedBefore'];

function conditions(filter: RedriveFilter): Condition {
  requireKnown('a filter of notifications', filter, filterNames);
  const states = checkedStates(filter.states);
  const { endpoint, tenant, subjectId, status, reason } = filter;
  const { sql, params } = filterConditions(filterTexts({ tenant, subject_id: subjectId, status, reason }), {
    ...filter,
    column: 'ended_at',
  });
  if (endpoint !== undefined) sql.push(`endpoint_id = ${idText('endpoint', endpoint)}`);
  return { states, sql: sql.map((condition) => ` AND ${condition}`).join(''), params };
}

/** State by state, so that the index of exhausted notifications serves. The cursor is the id and the state. */
async function readEnded(
  database: Database,
  states: readonly EndedState[],
  condition: string,
  params: readonly unknown[],
  after: string | undefined,
  limit: number,
): Promise<readonly BulkRow[]> {
  const [id = '0', from, ...more] = after?.split(' ') ?? [];
  if (after !== undefined && (!states.includes(from as EndedState) || more.length > 0))
    throw new InvalidArgumentError(
      `after is ${shownValue(after)}; give the cursor of a page, or of earlier counts, of the same filter, such as '42 ${states[0] ?? ''}'.`,
    );
  const found: BulkRow[] = [];
  for (const state of from === undefined ? states : states.slice(states.indexOf(from as EndedState))) {
    if (found.length === limit) break;
    const rows = await database.rows<{ id: string }>(
      `SELECT ${database.text('id')} AS id FROM ${database.table('notifier_notification')} t WHERE state = '${state}'${condition} AND ${notSuperseded(database, 't')} AND t.id > ${state === from ? idText('after', id) : '0'} ORDER BY t.id LIMIT ${limit - found.length}`,
      params,
    );
    found.push(...rows.map((row) => ({ id: row.id, cursor: `${row.id} ${state}` })));
  }
  return found;
}

async function resendRows(database: Database, sql: SqlRunner, ids: readonly string[]): Promise<readonly string[]> {
  const t = database.table('notifier_notification');
  const list = idList(database.family, ids);
  const rows = await sql.rows<{ id: string; endpoint_id: string }>(
    `SELECT ${database.text('id')} AS id, ${database.text('endpoint_id')} AS endpoint_id FROM ${t}${database.primaryKeyHint} WHERE ${list.sql} AND state <> 'PENDING' ORDER BY ${t}.id${forUpdate(database)}`,
    list.params,
  );
  if (rows.length === 0) return [];
  const some = idList(
    database.family,
    rows.map((row) => row.id),
  );
  await sql.run(`UPDATE ${t}${database.primaryKeyHint} SET ${setPending}, due_at = {now} WHERE ${some.sql}`, some.params);
  const endpoints = [...new Set(rows.map(({ endpoint_id }) => endpoint_id))];
  await sql.run(
    `INSERT INTO ${database.table('notifier_wake')} (endpoint_id) VALUES ${endpoints.map((endpoint) => `(${BigInt(endpoint)})`).join(', ')}`,
  );
  return rows.map((row) => row.id);
}
