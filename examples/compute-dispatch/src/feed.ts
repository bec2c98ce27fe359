import type { Subscriber } from '@holdfast/broker';
import type { Database, Logger } from '@holdfast/core';
import type { Knex } from 'knex';
import { z } from 'zod';
import { Listener } from './listener.ts';
import { batchChanged, slotChanged } from './topics.ts';
import { insertMany, locked, nowIn } from './transact.ts';

export const feedEvent = z.object({
  /** The position at which to continue: `after` of the next request. */
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
 * The changes of batches and slots as the topics `dispatch.*` report them, numbered, so that a customer whose callbacks were lost continues
 * to read where it was.
 *
 * Numbers are given under a lock on their counter that is held until the commit: an event with a lower number is never seen after one
 * with a higher number. A counter of the table could not promise that, since a transaction that began early may commit late.
 */
export class Feed {
  readonly #knex: Knex;
  readonly #database: Database;
  readonly #listener: Listener<Heard>;

  constructor(knex: Knex, database: Database, subscriber: Subscriber, logger: Logger) {
    this.#knex = knex;
    this.#database = database;
    this.#listener = new Listener<Heard>({
      knex,
      subscriber,
      logger,
      consumer: 'feed',
      topics: { 'dispatch.batch': batchChanged, 'dispatch.slot': slotChanged },
      hear: (heard, trx) => this.#write(heard, trx),
    });
  }

  async start(): Promise<void> {
    await this.#knex('dispatch_counter').insert({ name: 'feed', value: 0 }).onConflict('name').ignore();
    await this.#listener.start();
  }

  stop(): Promise<void> {
    return this.#listener.stop();
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

  async #write(heard: readonly { readonly topic: string; readonly body: Heard }[], trx: Knex.Transaction): Promise<void> {
    const counter = await locked(trx, trx('dispatch_counter').where({ name: 'feed' })).first();
    const last = Number(counter.value);
    await trx('dispatch_counter')
      .where({ name: 'feed' })
      .update({ value: last + heard.length });
    const heardMs = await nowIn(this.#database, trx);
    await insertMany(
      trx,
      'dispatch_event',
      heard.map(({ topic, body }, i) => ({
        seq: last + i + 1,
        tenant: body.tenant,
        batch_id: body.batchId,
        subject: 'applyId' in body ? body.applyId : body.batchId,
        type: topic === 'dispatch.batch' ? 'batch.changed' : 'slot.changed',
        data: JSON.stringify(body),
        at_ms: body.atMs,
        heard_ms: heardMs,
      })),
    );
  }
}

type Heard = z.infer<typeof batchChanged> | z.infer<typeof slotChanged>;

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
