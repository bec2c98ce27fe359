import type { Message, Publisher, Subscriber } from '@holdfast/broker';
import { afterCommit, cleanText, type Database, type Logger } from '@holdfast/core';
import { createInbox, type Inbox } from '@holdfast/outbox';
import type { Knex } from 'knex';
import { z } from 'zod';
import { jsonOf } from '../listener.ts';
import { powerTopic } from '../topics.ts';
import { nowIn } from '../transact.ts';
import { type PowerEvent, powerEvent } from './event.ts';
import { storeEvents } from './store-events.ts';

const some = z.object({ count: z.number(), newest: z.array(z.object({ id: z.string(), reason: z.string(), at: z.string() })) });
/** Power events that have no effect. */
export const strays = z.object({ unreadable: some, foreign: some, parked: some });
export type Strays = z.infer<typeof strays>;

export interface PowerEventsOptions {
  readonly knex: Knex;
  readonly database: Database;
  readonly broker: Publisher & Subscriber;
  readonly logger: Logger;
  /** Called when events have been stored and committed. */
  readonly onStored: () => void;
}

const consumer = 'dispatch';

/** Power events on their way from the machines to the table: all of them go through the broker. */
export class PowerEvents {
  readonly #options: PowerEventsOptions;
  readonly #inbox: Inbox;

  constructor(options: PowerEventsOptions) {
    this.#options = options;
    this.#inbox = createInbox({ knex: options.knex, logger: options.logger });
  }

  /** Stores what arrives. The fold derives the consequences later. */
  async start(): Promise<void> {
    await this.#inbox.consume({
      subscriber: this.#options.broker,
      topic: powerTopic,
      consumer,
      handleMany: (messages, trx) => this.#store(messages, trx),
    });
  }

  stop(): Promise<void> {
    return this.#inbox.close();
  }

  /** Publishes events that came over HTTP to the broker, so that all events take the same way. Resolves when the broker has them. */
  async publish(events: readonly PowerEvent[]): Promise<void> {
    const results = await this.#options.broker.publish(
      events.map((event) => ({
        id: event.eventId,
        topic: powerTopic,
        key: event.machineId,
        headers: {},
        body: Buffer.from(JSON.stringify(event)),
        contentType: 'application/json',
      })),
    );
    if (results.some(({ outcome }) => outcome !== 'acked')) throw new Error('The broker has not taken all events.');
  }

  /** Reads the events that have no effect: unreadable ones, those of unknown leases, and those too old to know whether they were handled. */
  async strays(): Promise<Strays> {
    const { knex } = this.#options;
    const time = (ms: unknown): string => new Date(Number(ms)).toISOString();
    const count = async (query: Knex.QueryBuilder): Promise<number> => Number((await query.count({ n: '*' }).first())?.n);
    const foreign = (): Knex.QueryBuilder => knex('dispatch_power_event').whereNull('lease_id');
    const unreadable = await knex('dispatch_stray').orderBy('stored_ms', 'desc').limit(100);
    const unknown = await foreign().orderBy('stored_ms', 'desc').limit(100);
    const parked = await this.#inbox.parked(consumer);
    return {
      unreadable: {
        count: await count(knex('dispatch_stray')),
        newest: unreadable.map((row: Record<string, unknown>) => ({
          id: String(row.message_id),
          reason: String(row.reason),
          at: time(row.stored_ms),
        })),
      },
      foreign: {
        count: await count(foreign()),
        newest: unknown.map((row: Record<string, unknown>) => ({
          id: String(row.id),
          reason: `${row.kind} of machine ${row.machine_id}: no lease ${row.token} with epoch ${row.epoch}`,
          at: time(row.stored_ms),
        })),
      },
      parked: {
        count: parked.length,
        newest: parked.map(({ message, reason, parkedAt }) => ({ id: message.id, reason, at: time(parkedAt) })),
      },
    };
  }

  async #store(messages: readonly Message[], trx: Knex.Transaction): Promise<unknown> {
    const { database, onStored } = this.#options;
    const nowMs = await nowIn(database, trx);
    const events: PowerEvent[] = [];
    for (const message of messages) {
      const parsed = powerEvent.safeParse(jsonOf(message));
      if (parsed.success) events.push(parsed.data);
      else await this.#storeStray(message, parsed.error, nowMs, trx);
    }
    await storeEvents(trx, events, 'room', nowMs);
    await afterCommit(trx, onStored);
    return undefined;
  }

  /** Sets an unreadable message aside where operators see it: no sender could take it back. */
  async #storeStray(message: Message, error: z.ZodError, nowMs: number, trx: Knex.Transaction): Promise<void> {
    const reason = error.issues.map(({ path, message: what }) => `${path.join('.') || 'body'}: ${what}`).join('; ');
    const row = {
      message_id: message.id,
      reason: cleanText(reason).slice(0, 500),
      body: cleanText(Buffer.from(message.body).toString()).slice(0, 2_000),
      stored_ms: nowMs,
    };
    await trx('dispatch_stray').insert(row).onConflict('message_id').ignore();
    this.#options.logger.warn({ id: message.id, reason: row.reason }, 'a power event could not be read; it is set aside');
  }
}
