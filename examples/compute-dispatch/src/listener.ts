import { type Message, reject, type Subscriber } from '@holdfast/broker';
import type { Logger } from '@holdfast/core';
import { type Consumption, createInbox, type Inbox } from '@holdfast/outbox';
import type { Knex } from 'knex';
import type { z } from 'zod';

export interface ListenerOptions<Body> {
  /** The database in which it records received messages. */
  readonly knex: Knex;
  readonly subscriber: Subscriber;
  readonly logger: Logger;
  readonly consumer: string;
  /** The topics, each with its schema. Messages that do not match go to the dead letters. */
  readonly topics: Readonly<Record<string, z.ZodType<Body>>>;
  /** Handles messages that arrived together, in the transaction that records them as received. */
  readonly hear: (heard: readonly { readonly topic: string; readonly body: Body }[], trx: Knex.Transaction) => Promise<void>;
}

/** Subscribes to topics, and handles each message once. */
export class Listener<Body> {
  readonly #options: ListenerOptions<Body>;
  readonly #inbox: Inbox;
  #consumption: Consumption | undefined;

  constructor(options: ListenerOptions<Body>) {
    this.#options = options;
    this.#inbox = createInbox({ knex: options.knex, logger: options.logger });
  }

  async start(): Promise<void> {
    const { subscriber, topics, consumer } = this.#options;
    this.#consumption = await this.#inbox.consume({
      subscriber,
      consumer,
      topic: Object.keys(topics),
      handleMany: (messages, trx) => this.#hear(messages, trx),
    });
  }

  async stop(): Promise<void> {
    await this.#consumption?.close();
    await this.#inbox.close();
  }

  async #hear(messages: readonly Message[], trx: Knex.Transaction): Promise<unknown> {
    const heard: { topic: string; body: Body }[] = [];
    for (const message of messages) {
      const parsed = this.#options.topics[message.topic]?.safeParse(jsonOf(message));
      if (!parsed?.success)
        return reject(
          `not what ${message.topic} carries: ${parsed?.error.issues.map(({ path, message: what }) => `${path.join('.')} ${what}`).join('; ')}`,
        );
      heard.push({ topic: message.topic, body: parsed.data });
    }
    await this.#options.hear(heard, trx);
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
