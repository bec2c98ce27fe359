import type { Subscriber } from '@holdfast/broker';
import type { Logger } from '@holdfast/core';
import type { Knex } from 'knex';
import type { z } from 'zod';
import { Listener } from './listener.ts';
import { usageInvoice, usageTopic } from './topics.ts';
import { insertMany } from './transact.ts';

/** Another service, which collects the money. It receives every invoice at least once, and books each once. */
export function billingService(knex: Knex, subscriber: Subscriber, logger: Logger): Listener<z.infer<typeof usageInvoice>> {
  return new Listener({
    knex,
    subscriber,
    logger,
    consumer: 'billing-service',
    topics: { [usageTopic]: usageInvoice },
    hear: (heard, trx) =>
      insertMany(
        trx,
        'billing_usage',
        heard.map(({ body }) => ({ invoice_id: body.invoiceId, tenant: body.tenant, amount_cents: body.amountCents })),
      ),
  });
}
