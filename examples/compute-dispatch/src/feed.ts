import { type Message, reject, type Subscriber } from '@holdfast/broker';
import type { Database, Logger } from '@holdfast/core';
import { type Consumption, createInbox, type Inbox } from '@holdfast/outbox';
import type { Knex } from 'knex';
import { z } from 'zod';
import { batchChanged, slotChanged } from './topics.ts';
import { insertMany, locked, nowIn } from './transact.ts';

export const feedEvent = z.object({
  /** Where to go on: `after` of the next request. */
  seq: z.string(),
  type: z.enum(['batch.changed', 'slot.changed']),
  batchId: z.string(),
  /** The slot, or the batch itself. */
  subject: z.string(),
  data: z.record(z.string(), z.unknown()),
  at: z.string(),
});
export type FeedEvent = z.infer<typeof feedEvent>;

/**
 * What happened to batches and slots, as those hear it who listen to `dispatch.*`; and numbered, so that a customer whose callbacks were
 * lost reads on from where it was.
 *
 * Numbers are given under a lock on their counter that is held until the commit: an event with a lower number is never seen after one
 * with a higher, as it would be if the table counted (a transaction that began early may commit late).
 */
export class Feed {
  readonly #knex: Knex;
  readonly #database: Database;
  readonly #inbox: Inbox;
  readonly #subscriber: Subscriber;
  #consumption: Consumption | undefined;

  constructor(knex: Knex, database: Database, subscriber: Subscriber, logger: Logger) {
    this.#knex = knex;
    this.#database = database;
    this.#inbox = createInbox({ knex, logger });
    this.#subscriber = subscriber;
  }

  async start(): Promise<void> {
    await this.#knex('dispatch_counter').insert({ name: 'feed', value: 0 }).onConflict('name').ignore();
    this.#consumption = await this.#inbox.consume({
      subscriber: this.#subscriber,
      topic: ['dispatch.batch', 'dispatch.slot'],
      consumer: 'feed',
      handleMany: (messages, trx) => this.#write(messages, trx),
    });
  }

  async stop(): Promise<void> {
    await this.#consumption?.close();
    await this.#inbox.close();
  }

  /** A page of a tenant's events after a number, oldest first. */
  async read(tenant: string, after: string, limit: number): Promise<FeedEvent[]> {
    return (await this.#knex('dispatch_event').where({ tenant }).where('seq', '>', after).orderBy('seq').limit(limit)).map(view);
  }

  /** The events of a batch, with its slots, oldest first. */
  async of(batchId: string, limit: number = 5_000): Promise<(FeedEvent & { readonly heardAt: string })[]> {
    const rows = await this.#knex('dispatch_event').where({ batch_id: batchId }).orderBy('seq').limit(limit);
    return rows.map((row) => ({ ...view(row), heardAt: new Date(Number(row.heard_ms)).toISOString() }));
  }

  async #write(messages: readonly Message[], trx: Knex.Transaction): Promise<unknown> {
    const rows: Record<string, unknown>[] = [];
    for (const message of messages) {
      const batch = message.topic === 'dispatch.batch';
      const parsed = (batch ? batchChanged : slotChanged).safeParse(jsonOf(message));
      if (!parsed.success) return reject(`not what ${message.topic} carries: ${z.prettifyError(parsed.error)}`);
      const data = parsed.data;
      rows.push({
        tenant: data.tenant,
        batch_id: data.batchId,
        subject: 'applyId' in data ? data.applyId : data.batchId,
        type: batch ? 'batch.changed' : 'slot.changed',
        data: JSON.stringify(data),
        at_ms: data.atMs,
      });
    }
    const counter = await locked(trx, trx('dispatch_counter').where({ name: 'feed' })).first();
    const last = Number(counter.value);
    await trx('dispatch_counter')
      .where({ name: 'feed' })
      .update({ value: last + rows.length });
    const heardMs = await nowIn(this.#database, trx);
    await insertMany(
      trx,
      'dispatch_event',
      rows.map((row, i) => ({ ...row, seq: last + i + 1, heard_ms: heardMs })),
    );
    return undefined;
  }
}

/** The body of a message, if it is JSON. */
export function jsonOf(message: Message): unknown {
  try {
    return JSON.parse(Buffer.from(message.body).toString());
  } catch {
    return undefined;
  }
}

function view(row: Record<string, unknown>): FeedEvent {
  return {
    seq: String(row.seq),
    type: row.type as FeedEvent['type'],
    batchId: String(row.batch_id),
    subject: String(row.subject),
    data: JSON.parse(String(row.data)) as Record<string, unknown>,
    at: new Date(Number(row.at_ms)).toISOString(),
  };
}
