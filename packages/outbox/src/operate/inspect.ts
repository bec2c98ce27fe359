import {
  type Actor,
  type BulkAction,
  countUpTo,
  type Database,
  filterConditions,
  type Inspectable,
  InvalidArgumentError,
  idText,
  keyText,
  LeaseTable,
  type ListQuery,
  pageLimit,
  requireActor,
  requireFilters,
  shownValue,
} from '@holdfast/core';
import { laneCount } from '../table/lanes.ts';
import { messageColumns } from '../table/message-columns.ts';
import { deadFilter, redriveDead } from './redrive.ts';

/** Figures of an outbox. Counts stop at {@link OutboxStats.countedTo}. */
export interface OutboxStats {
  /** Messages that are committed and not yet published, those of held keys included. */
  readonly unsent: number;
  /** Age of the oldest of them in ms; 0 if there is none. */
  readonly oldestUnsentMs: number;
  /** Messages that are not due yet. */
  readonly delayed: number;
  /** Held keys: the broker refused their first message, and the others wait. A refused message without a key counts as one. */
  readonly heldKeys: number;
  /** Messages of held keys. */
  readonly parked: number;
  /** Dead letters. */
  readonly dead: number;
  /** Number of lanes of each relay, by its id. */
  readonly lanes: Readonly<Record<string, number>>;
  /** Limit of the counts; a count that equals it means this many or more. */
  readonly countedTo: number;
}

const countedTo = 100_000;
const tables = { waiting: 'outbox_message', parked: 'outbox_parked', delayed: 'outbox_delayed', dead: 'outbox_dead' } as const;

/** The view of an outbox for operators' tools. A `status` is the list that a message is in: `waiting`, `parked`, `delayed`, `dead`. */
export class OutboxInspection implements Inspectable {
  readonly name = 'outbox';
  readonly statuses: readonly string[] = Object.keys(tables);
  readonly redrivable: readonly string[] = ['dead'];
  readonly actions: Readonly<Record<'redrive', (target: string, by: Actor) => Promise<number>>>;
  readonly bulk: Readonly<Record<'redrive', BulkAction>>;
  readonly #database: Database;

  constructor(database: Database, changed: () => void) {
    this.#database = database;
    this.actions = {
      redrive: async (id, by) => {
        requireActor(by, 'redrive');
        return (await redriveDead(database, { id }, by, changed)).changed;
      },
    };
    this.bulk = { redrive: async (filter, options) => redriveDead(database, deadFilter(filter), options, changed) };
  }

  /** Figures of the outbox, with the lanes of each relay. */
  async overview(): Promise<OutboxStats> {
    const count = (table: string): Promise<number> => countUpTo(this.#database, table, countedTo);
    const lanes: Record<string, number> = {};
    for (const owner of (await new LeaseTable(this.#database).holders('outbox')).values()) lanes[owner] = (lanes[owner] ?? 0) + 1;
    const parked = await count('outbox_parked');
    return {
      unsent: Math.min(countedTo, (await count('outbox_message')) + parked),
      oldestUnsentMs: await this.#oldestMs(),
      delayed: await count('outbox_delayed'),
      heldKeys: await count('outbox_held'),
      parked,
      dead: await count('outbox_dead'),
      lanes,
      countedTo,
    };
  }

  /** The same figures as one flat row, for gauges and dashboards. */
  async stats(): Promise<readonly Readonly<Record<string, string | number | null>>[]> {
    const { lanes, countedTo: _, ...counts } = await this.overview();
    return [{ ...counts, relays: Object.keys(lanes).length }];
  }

  /** Messages of one list by row id, 50 by default. @throws InvalidArgumentError */
  async list(query: ListQuery = {}): Promise<readonly Readonly<Record<string, unknown>>[]> {
    const limit = pageLimit(query);
    const status = query.status ?? 'waiting';
    const table = typeof status === 'string' && Object.hasOwn(tables, status) ? tables[status as keyof typeof tables] : undefined;
    if (!table) throw new InvalidArgumentError(`status is ${shownValue(status)}; give one of ${Object.keys(tables).join(', ')}.`);
    requireFilters('outbox', query, ['kind', 'key', 'subject', 'tenant']);
    const { kind, key, subject, tenant } = query;
    const { sql, params } = filterConditions({ topic: kind, message_key: key, subject, tenant });
    const where = [`t.id > ${idText('after', query.after ?? '0')}`, ...sql].join(' AND ');
    const more = { waiting: '', parked: ', hold', delayed: ', due_at', dead: ', reason, error, dead_at' }[status as keyof typeof tables];
    return this.#database.rows(
      `SELECT ${this.#database.text('id')} AS id, lane, topic, message_key, message_id, tenant, subject, first_put_at${more} FROM ${this.#database.table(table)} t WHERE ${where} ORDER BY t.id LIMIT ${limit}`,
      params,
    );
  }

  /** A message that is not published yet, by its message id. */
  async get(id: string): Promise<Readonly<Record<string, unknown>> | undefined> {
    keyText('id', id);
    for (const [status, table] of Object.entries(tables)) {
      // Scans outbox_message, which is short as a rule; an index on message_id would slow every put down.
      const [row] = await this.#database.rows<Record<string, unknown>>(
        `SELECT ${this.#database.text('id')} AS id, lane, ${messageColumns.join(', ')} FROM ${this.#database.table(table)} t WHERE message_id = ? LIMIT 1`,
        [id],
      );
      if (row) return { ...row, status };
    }
    return undefined;
  }

  async #oldestMs(): Promise<number> {
    // Reads the first row of each lane by primary key. The oldest of them is the oldest message, save for one that committed late.
    const t = this.#database.table('outbox_message');
    const heads = Array.from(
      { length: laneCount },
      (_, lane) => `SELECT first_put_at FROM (SELECT first_put_at FROM ${t} t WHERE lane = ${lane} ORDER BY t.id LIMIT 1) l${lane}`,
    ).join(' UNION ALL ');
    const [row] = await this.#database.rows<{ age: string | number | null }>(
      `SELECT {now} - MIN(first_put_at) AS age FROM (${heads} UNION ALL SELECT first_put_at FROM ${this.#database.table('outbox_parked')}) heads`,
    );
    return Math.max(0, Number(row?.age ?? 0));
  }
}
