import type { Outbox } from '@holdfast/outbox';
import type { Knex } from 'knex';
import type { Callbacks } from './callbacks.ts';
import type { BatchState, SlotState, topics } from './topics.ts';

/** Who is told of changes. */
export interface Voices {
  readonly outbox: Outbox<typeof topics>;
  readonly callbacks: Callbacks;
}

export interface BatchNews {
  readonly batchId: string;
  readonly tenant: string;
  readonly businessOrderNo: string;
  readonly state: BatchState;
}

export interface SlotNews {
  readonly applyId: string;
  readonly batchId: string;
  readonly tenant: string;
  readonly state: SlotState;
  readonly machineId: string | null;
  /** Counts what was told of the slot, this included. */
  readonly news: number;
}

export interface AssetNews {
  readonly machineId: string;
  readonly applyId: string;
  readonly epoch: number;
  readonly active: boolean;
}

export interface News {
  readonly batches?: readonly BatchNews[];
  readonly slots?: readonly SlotNews[];
  readonly assets?: readonly AssetNews[];
}

/** Says what changed, in the transaction that changed it: to listeners, to the asset service, to customers. */
export async function announce(trx: Knex.Transaction, { outbox, callbacks }: Voices, news: News, atMs: number): Promise<void> {
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
