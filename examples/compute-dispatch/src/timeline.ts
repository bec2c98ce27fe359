import type { Subscriber } from '@holdfast/broker';
import type { Logger } from '@holdfast/core';
import { type Consumption, createInbox, type Inbox } from '@holdfast/outbox';
import type { Knex } from 'knex';
import { z } from 'zod';
import { batchChanged, slotChanged } from './topics.ts';

export const timelineEntry = z.object({
  /** `batch`, or the slot's `applyId`. */
  of: z.string(),
  what: z.string(),
  at: z.string(),
});
export type TimelineEntry = z.infer<typeof timelineEntry>;

/** What happened to a batch, as those see it who listen to `dispatch.*`: a read model, filled from the broker. */
export class Timeline {
  readonly #knex: Knex;
  readonly #inbox: Inbox;
  readonly #subscriber: Subscriber;
  #consumption: Consumption | undefined;

  constructor(knex: Knex, subscriber: Subscriber, logger: Logger) {
    this.#knex = knex;
    this.#inbox = createInbox({ knex, logger });
    this.#subscriber = subscriber;
  }

  async start(): Promise<void> {
    this.#consumption = await this.#inbox.consume({
      subscriber: this.#subscriber,
      topic: ['dispatch.batch', 'dispatch.slot'],
      consumer: 'timeline',
      handler: async (message, trx) => {
        const body: unknown = JSON.parse(Buffer.from(message.body).toString());
        const entry =
          message.topic === 'dispatch.batch'
            ? ((batch) => ({ batch_id: batch.batchId, subject: 'batch', what: batch.state, at_ms: batch.atMs }))(batchChanged.parse(body))
            : ((slot) => ({
                batch_id: slot.batchId,
                subject: slot.applyId,
                what: slot.power === null ? slot.state : `POWER_${slot.power}`,
                at_ms: slot.atMs,
              }))(slotChanged.parse(body));
        await trx('dispatch_timeline').insert({ message_id: message.id, ...entry });
      },
    });
  }

  async stop(): Promise<void> {
    await this.#consumption?.close();
    await this.#inbox.close();
  }

  async of(batchId: string): Promise<TimelineEntry[]> {
    const rows = await this.#knex('dispatch_timeline').where({ batch_id: batchId }).orderBy(['at_ms', 'message_id']).limit(5_000);
    return rows.map((row) => ({ of: row.subject, what: row.what, at: new Date(Number(row.at_ms)).toISOString() }));
  }
}
