import { type Actor, type Database, type Inspectable, InvalidArgumentError, LeaseTable, type ListQuery } from '@holdfast/core';
import { laneCount } from '../table/lanes.ts';
import { messageColumns } from '../table/message-columns.ts';
import { redriveDead } from './redrive.ts';

/** What is in the outbox. Counts stop at {@link OutboxStats.countedTo}. */
export interface OutboxStats {
  /** Committed and not yet published, held ones included. */
  readonly unsent: number;
  /** Of the oldest of them, in ms; 0 if there is none. */
  readonly oldestUnsentMs: number;
  readonly delayed: number;
  /** Topics' keys (and messages without one) that wait because the broker refused them. */
  readonly heldKeys: number;
  readonly parked: number;
  readonly dead: number;
  /** How many lanes each relay has. */
  readonly lanes: Readonly<Record<string, number>>;
  readonly countedTo: number;
}

const countedTo = 100_000;
const tables = { waiting: 'outbox_message', parked: 'outbox_parked', delayed: 'outbox_delayed', dead: 'outbox_dead' } as const;

/** What operators' tools see of the outbox. A `status` is the list in which a message stands. */
export class OutboxInspection implements Inspectable {
  readonly name = 'outbox';
  readonly actions: Readonly<Record<'redrive', (target: string, by: Actor) => Promise<number>>>;
  readonly #database: Database;

  constructor(database: Database, changed: () => void) {
    this.#database = database;
    this.actions = {
      redrive: async (id, by) => {
        const count = await redriveDead(database, { id }, {}, by);
        if (count > 0) changed();
        return count;
      },
    };
  }

  /** A few figures in words, for the command line. */
  async overview(): Promise<OutboxStats> {
    const count = async (table: string): Promise<number> => {
      const [row] = await this.#database.rows<{ n: string | number }>(
        `SELECT count(*) AS n FROM (SELECT 1 AS one FROM ${this.#database.table(table)} LIMIT ${countedTo}) c`,
      );
      return Number(row?.n ?? 0);
    };
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

  /** Figures for gauges and dashboards. */
  async stats(): Promise<readonly Readonly<Record<string, string | number | null>>[]> {
    const { lanes, countedTo: _, ...counts } = await this.overview();
    return [{ ...counts, relays: Object.keys(lanes).length }];
  }

  async list(query: ListQuery = {}): Promise<readonly Readonly<Record<string, unknown>>[]> {
    const limit = query.limit ?? 50;
    if (!Number.isInteger(limit) || limit < 1 || limit > 1_000)
      throw new InvalidArgumentError(`limit is ${limit}; give a whole number from 1 to 1,000.`);
    const status = query.status ?? 'waiting';
    const table = Object.hasOwn(tables, status) ? tables[status as keyof typeof tables] : undefined;
    if (!table) throw new InvalidArgumentError(`status is ${JSON.stringify(status)}; give one of ${Object.keys(tables).join(', ')}.`);
    if (query.after !== undefined && !/^\d{1,19}$/.test(query.after))
      throw new InvalidArgumentError(`after is ${JSON.stringify(query.after)}; give the id of a row.`);
    const where = [`t.id > ${BigInt(query.after ?? 0)}`];
    const params: unknown[] = [];
    if (query.kind !== undefined) {
      where.push('topic = ?');
      params.push(query.kind);
    }
    const more = { waiting: '', parked: ', hold', delayed: ', due_at', dead: ', reason, error, dead_at' }[status as keyof typeof tables];
    return this.#database.rows(
      `SELECT ${this.#database.text('id')} AS id, lane, topic, message_key, message_id, tenant, subject, first_put_at${more} FROM ${this.#database.table(table)} t WHERE ${where.join(' AND ')} ORDER BY t.id LIMIT ${limit}`,
      params,
    );
  }

  /** A message that is not published yet, by its message id or, in the lists, its row id. */
  async get(id: string): Promise<Readonly<Record<string, unknown>> | undefined> {
    for (const [status, table] of Object.entries(tables)) {
      // A row of the waiting ones is found by scanning: they are few as a rule, and an index would cost every put.
      const [row] = await this.#database.rows<Record<string, unknown>>(
        `SELECT ${this.#database.text('id')} AS id, lane, ${messageColumns.join(', ')} FROM ${this.#database.table(table)} t WHERE message_id = ? LIMIT 1`,
        [id],
      );
      if (row) return { ...row, status };
    }
    return undefined;
  }

  async #oldestMs(): Promise<number> {
    // The first of each lane by primary key; the oldest of those is the oldest, but for a late commit or two.
    const t = this.#database.table('outbox_message');
    const heads = Array.from(
      { length: laneCount },
      (_, lane) => `SELECT first_put_at FROM (SELECT first_put_at FROM ${t} WHERE lane = ${lane} ORDER BY id LIMIT 1) l${lane}`,
    ).join(' UNION ALL ');
    const [row] = await this.#database.rows<{ age: string | number | null }>(
      `SELECT {now} - MIN(first_put_at) AS age FROM (${heads} UNION ALL SELECT first_put_at FROM ${this.#database.table('outbox_parked')}) heads`,
    );
    return Math.max(0, Number(row?.age ?? 0));
  }
}
