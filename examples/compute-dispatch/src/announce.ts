import type { Outbox } from '@holdfast/outbox';
import type { Knex } from 'knex';
import type { Callbacks } from './callbacks.ts';
import type { News } from './news.ts';
import type { topics } from './topics.ts';

/** The outbox and the callbacks, through which changes are announced. */
export interface Announcers {
  readonly outbox: Outbox<typeof topics>;
  readonly callbacks: Callbacks;
}

/** Announces changes to listeners, to the asset service and to customers, in the transaction that makes the changes. */
export async function announce(trx: Knex.Transaction, { outbox, callbacks }: Announcers, news: News, atMs: number): Promise<void> {
  const { batches = [], slots = [], assets = [] } = news;
  const out = outbox.in(trx);
  if (batches.length > 0)
    await out.putMany(
      'dispatch.batch',
      batches.map((batch) => ({ payload: { ...batch, atMs }, options: { subject: batch.batchId, tenant: batch.tenant } })),
    );
  if (slots.length > 0) {
    await out.putMany(
      'dispatch.slot',
      slots.map((slot) => ({ payload: { ...slot, atMs }, options: { subject: slot.applyId, tenant: slot.tenant } })),
    );
    await callbacks.tell(trx, slots, atMs);
  }
  if (assets.length > 0)
    await out.putMany(
      'asset.lease.v1',
      assets.map((asset) => ({ payload: { ...asset, atMs }, options: { subject: asset.applyId } })),
    );
}
