import type { Subscriber } from '@holdfast/broker';
import type { Logger } from '@holdfast/core';
import { type Consumption, createInbox, type Inbox } from '@holdfast/outbox';
import type { Knex } from 'knex';
import { usageInvoice, usageTopic } from './topics.ts';

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
      handler: async (message, trx) => {
        const { invoiceId, tenant, amountCents } = usageInvoice.parse(JSON.parse(Buffer.from(message.body).toString()));
        await trx('billing_usage').insert({ invoice_id: invoiceId, tenant, amount_cents: amountCents });
      },
    });
  }

  async stop(): Promise<void> {
    await this.#consumption?.close();
    await this.#inbox.close();
  }
}
