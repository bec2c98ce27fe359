import { reject, type Subscriber } from '@holdfast/broker';
import type { Logger } from '@holdfast/core';
import { type Consumption, createInbox, type Inbox } from '@holdfast/outbox';
import type { Knex } from 'knex';
import { jsonOf } from './feed.ts';
import { usageInvoice, usageTopic } from './topics.ts';
import { insertMany } from './transact.ts';

/** Another service, which collects the money. It hears of every invoice at least once, and books each once. */
export class BillingService {
  readonly #inbox: Inbox;
  readonly #subscriber: Subscriber;
  #consumption: Consumption | undefined;

  constructor(knex: Knex, subscriber: Subscriber, logger: Logger) {
    this.#inbox = createInbox({ knex, logger });
    this.#subscriber = subscriber;
  }

  async start(): Promise<void> {
    this.#consumption = await this.#inbox.consume({
      subscriber: this.#subscriber,
      topic: usageTopic,
      consumer: 'billing-service',
      handleMany: async (messages, trx) => {
        const rows: object[] = [];
        for (const message of messages) {
          const parsed = usageInvoice.safeParse(jsonOf(message));
          if (!parsed.success) return reject(`not what ${usageTopic} carries`);
          const { invoiceId, tenant, amountCents } = parsed.data;
          rows.push({ invoice_id: invoiceId, tenant, amount_cents: amountCents });
        }
        await insertMany(trx, 'billing_usage', rows);
        return undefined;
      },
    });
  }

  async stop(): Promise<void> {
    await this.#consumption?.close();
    await this.#inbox.close();
  }
}
