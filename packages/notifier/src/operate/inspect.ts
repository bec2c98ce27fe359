import {
  type Actor,
  type BulkAction,
  countUpTo,
  type Database,
  filterConditions,
  filterTexts,
  type Inspectable,
  InvalidArgumentError,
  idText,
  type ListQuery,
  pageLimit,
  requireFilters,
  shownValue,
} from '@holdfast/core';
import type { AttemptView } from '../table/notification-table.ts';
import { endedFilter, redriveEnded } from './redrive.ts';
import { cancel, resend } from './steer.ts';

/** Counts of the rows in the notifier's tables at the moment. */
export interface NotifierStats {
  /** Notifications that have not ended. */
  readonly pending: number;
  /** Pending notifications whose due time has passed. */
  readonly due: number;
  /** Time since the oldest due time of these, in ms. */
  readonly oldestDueMs: number;
  /** Notifications whose attempts are used up. They wait for a person. */
  readonly exhausted: number;
  readonly endpoints: number;
  readonly openBreakers: number;
  readonly paused: number;
  /** The largest count: counting stops here. */
  readonly countedTo: number;
}

const countedTo = 10_000;
const states = ['PENDING', 'DELIVERED', 'EXHAUSTED', 'GONE', 'CANCELLED'];
const shown =
  'endpoint_id, tenant, subject_id, status, sequence, state, reason, webhook_id, notify_times, last_notified_at, response_status, responded_at, due_at, created_at, ended_at, traceparent';

/** The operators' port of the notifier, shaped as in every package. It never returns keys, or the query of a URL. */
export class NotifierInspection implements Inspectable {
  readonly name = 'notifier';
  readonly statuses: readonly string[] = states;
  readonly redrivable: readonly string[] = ['EXHAUSTED', 'GONE', 'CANCELLED', 'DELIVERED'];
  readonly bulk: Readonly<Record<'redrive', BulkAction>>;
  readonly #database: Database;
  readonly #changed: () => void;

  constructor(database: Database, changed: () => void) {
    this.#database = database;
    this.#changed = changed;
    this.bulk = { redrive: async (filter, options) => redriveEnded(database, endedFilter(filter), options, changed) };
  }

  get actions(): Inspectable['actions'] {
    const resendOne = async (id: string, by: Actor): Promise<number> => {
      const changed = await resend(this.#database, id, by);
      if (changed) this.#changed();
      return changed ? 1 : 0;
    };
    // Under its own name, and under the name that every package has.
    const cancelOne = async (id: string, by: Actor): Promise<number> => ((await cancel(this.#database, id, by)) ? 1 : 0);
    return { resend: resendOne, redrive: resendOne, cancel: cancelOne };
  }

  /** Counts of notifications and endpoints. */
  async overview(): Promise<NotifierStats> {
    const count = (table: string, where: string): Promise<number> => countUpTo(this.#database, table, countedTo, where);
    const n = 'notifier_notification';
    const [oldest] = await this.#database.rows<{ age: string | number | null }>(
      `SELECT {now} - MIN(due_at) AS age FROM (SELECT due_at FROM ${this.#database.table(n)} WHERE state = 'PENDING' AND due_at <= {now} LIMIT ${countedTo}) d`,
    );
    return {
      pending: await count(n, "state = 'PENDING'"),
      due: await count(n, "state = 'PENDING' AND due_at <= {now}"),
      oldestDueMs: Math.max(0, Number(oldest?.age ?? 0)),
      exhausted: await count(n, "state = 'EXHAUSTED'"),
      endpoints: await count('notifier_endpoint', '1 = 1'),
      openBreakers: await count('notifier_endpoint', 'opened > 0'),
      paused: await count('notifier_endpoint', 'paused = 1'),
      countedTo,
    };
  }

  /** The counts of {@link overview} as one row, for gauges and dashboards. */
  async stats(): Promise<readonly Readonly<Record<string, string | number | null>>[]> {
    const { countedTo: _, ...counts } = await this.overview();
    return [counts];
  }

  /** Returns notifications in the order of their ids. `status` is a state such as `EXHAUSTED`, `kind` a business status. */
  async list(
    query: ListQuery & { readonly tenant?: string; readonly subjectId?: string } = {},
  ): Promise<readonly Readonly<Record<string, unknown>>[]> {
    const limit = pageLimit(query);
    const { subjectId, ...filters } = query;
    requireFilters('notifier', filters, ['kind', 'subject', 'tenant']);
    if (query.status !== undefined && !states.includes(query.status))
      throw new InvalidArgumentError(`status is ${shownValue(query.status)}; give one of ${states.join(', ')}.`);
    const { sql, params } = filterConditions(
      filterTexts({ tenant: query.tenant, subject_id: subjectId ?? query.subject, status: query.kind }),
    );
    // The state as a literal, which a partial index needs.
    const state = query.status === undefined ? [] : [`state = '${query.status}'`];
    const where = [`t.id > ${idText('after', query.after ?? '0')}`, ...state, ...sql];
    const rows = await this.#database.rows<Record<string, unknown>>(
      `SELECT ${this.#database.text('id')} AS id, url, ${shown} FROM ${this.#database.table('notifier_notification')} t WHERE ${where.join(' AND ')} ORDER BY t.id LIMIT ${limit}`,
      params,
    );
    return rows.map(view);
  }

  /** Returns a notification with its body and its attempts. */
  async get(id: string): Promise<(Readonly<Record<string, unknown>> & { readonly attempts: readonly AttemptView[] }) | undefined> {
    const [row] = await this.#database.rows<Record<string, unknown>>(
      `SELECT ${this.#database.text('id')} AS id, url, ${shown}, content_type, params FROM ${this.#database.table('notifier_notification')} t WHERE t.id = ${idText('id', id)}`,
    );
    return row && { ...view(row), attempts: await this.attempts(id) };
  }

  /** Returns the attempts of a notification, oldest first. */
  async attempts(id: string): Promise<readonly AttemptView[]> {
    const rows = await this.#database.rows<Record<string, string | number | null>>(
      `SELECT number, trigger_by, outcome, started_at, ended_at, duration_ms, http_status, error_code, remote_address, snippet FROM ${this.#database.table('notifier_attempt')} WHERE notification_id = ${idText('id', id)} ORDER BY number`,
    );
    const number = (value: string | number | null | undefined): number | null =>
      value === null || value === undefined ? null : Number(value);
    const text = (value: string | number | null | undefined): string | null =>
      value === null || value === undefined ? null : String(value);
    return rows.map((row) => ({
      number: Number(row.number),
      trigger: String(row.trigger_by) as AttemptView['trigger'],
      outcome: String(row.outcome),
      startedAt: Number(row.started_at),
      endedAt: number(row.ended_at),
      durationMs: number(row.duration_ms),
      httpStatus: number(row.http_status),
      errorCode: text(row.error_code),
      remoteAddress: text(row.remote_address),
      snippet: text(row.snippet),
    }));
  }
}

const times = ['last_notified_at', 'responded_at', 'due_at', 'created_at', 'ended_at'];

/** A row as it is shown: times as numbers, and the URL without its query, which may contain secrets. */
function view(row: Record<string, unknown>): Readonly<Record<string, unknown>> {
  const shownRow: Record<string, unknown> = { ...row, endpoint_id: String(row.endpoint_id), url: String(row.url).split('?')[0] };
  for (const name of times) shownRow[name] = row[name] === null ? null : Number(row[name]);
  return shownRow;
}
