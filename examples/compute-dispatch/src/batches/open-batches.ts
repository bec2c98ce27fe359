import type { Database } from '@holdfast/core';
import type { Knex } from 'knex';
import type { BatchNews, SlotNews } from '../news.ts';
import type { BatchState, SlotState } from '../topics.ts';
import { byKey, inPortions, locked, updateMany } from '../transact.ts';

/** A batch whose filling has not ended. */
export interface OpenBatch {
  readonly id: string;
  readonly tenant: string;
  readonly businessOrderNo: string;
  readonly packageId: string;
  readonly priceVersion: number;
  readonly wanted: number;
  readonly minimum: number;
  readonly passes: number;
  state: BatchState;
  deadlineMs: number;
  startedMs: number | null;
}

/** A slot of an open batch that may still get its machine. A pass changes it in memory, and writes it with {@link updateSlots}. */
export interface OpenSlot {
  readonly applyId: string;
  readonly batchId: string;
  readonly tenant: string;
  state: SlotState;
  leaseId: string | null;
  machineId: string | null;
  /** The number of changes that were announced. */
  news: number;
  /** A slot that waits for another attempt is not tried before this time, in ms since 1970. */
  retryMs: number | null;
  /** Set once the slot has changed in this pass. */
  changed?: true;
}

/** Reads and locks those of the batches whose filling has not ended. */
export async function openBatches(trx: Knex.Transaction, ids: readonly string[], nowMs: number): Promise<OpenBatch[]> {
  const rows = await locked(trx, byKey(trx, 'dispatch_batch').whereIn('id', ids).whereNull('result').orderBy('id'));
  return rows.map((row) => ({
    id: String(row.id),
    tenant: String(row.tenant),
    businessOrderNo: String(row.business_order_no),
    packageId: String(row.package_id),
    priceVersion: Number(row.price_version),
    wanted: Number(row.wanted),
    minimum: Number(row.minimum),
    passes: Number(row.passes),
    state: row.state,
    // For an order without a time, the first pass decides.
    deadlineMs: row.deadline_ms === null ? nowMs : Number(row.deadline_ms),
    startedMs: row.started_ms === null ? null : Number(row.started_ms),
  }));
}

/**
 * Slots that are not up yet, and still may come up. After a batch's deadline they are locked, because a starting slot may be expired here
 * while an event of its machine makes it run.
 */
export async function openSlots(trx: Knex.Transaction, batches: readonly OpenBatch[], nowMs: number): Promise<OpenSlot[]> {
  const read = (some: readonly OpenBatch[]): Knex.QueryBuilder =>
    trx('dispatch_slot')
      .whereIn(
        'batch_id',
        some.map(({ id }) => id),
      )
      .whereIn('state', ['WANTED', 'RETRY_WAIT', 'HELD', 'GRANTED', 'STARTING'])
      .orderBy(['batch_id', 'apply_id'])
      .select('apply_id', 'batch_id', 'tenant', 'state', 'lease_id', 'machine_id', 'news', 'retry_ms');
  const over = batches.filter(({ deadlineMs }) => deadlineMs <= nowMs);
  const others = batches.filter(({ deadlineMs }) => deadlineMs > nowMs);
  const rows = [...(over.length > 0 ? await locked(trx, read(over)) : []), ...(others.length > 0 ? await read(others) : [])];
  return rows.map((row) => ({
    applyId: String(row.apply_id),
    batchId: String(row.batch_id),
    tenant: String(row.tenant),
    state: row.state,
    leaseId: row.lease_id === null ? null : String(row.lease_id),
    machineId: row.machine_id === null ? null : String(row.machine_id),
    news: Number(row.news),
    retryMs: row.retry_ms === null ? null : Number(row.retry_ms),
  }));
}

/** Counts the slots that run, or ran. */
export async function countUp(trx: Knex.Transaction, batches: readonly OpenBatch[]): Promise<Map<string, number>> {
  const rows = await inPortions(
    batches.map(({ id }) => id),
    (some) =>
      trx('dispatch_slot')
        .whereIn('batch_id', some)
        .whereIn('state', ['RUNNING', 'ENDED'])
        .groupBy('batch_id')
        .select('batch_id', trx.raw('COUNT(*) AS n')),
  );
  return new Map(rows.map((row) => [String(row.batch_id), Number(row.n)]));
}

/** Changes the state of a slot in memory. With `told`, the change is announced: the slot is added there as it is now. */
export function change(slot: OpenSlot, state: SlotState, told?: OpenSlot[]): void {
  slot.state = state;
  slot.changed = true;
  if (!told) return;
  slot.news += 1;
  told.push({ ...slot });
}

export async function updateSlots(database: Database, trx: Knex.Transaction, slots: readonly OpenSlot[], nowMs: number): Promise<void> {
  await updateMany(database, trx, {
    table: 'dispatch_slot',
    types: { apply: 'text', to_state: 'text', to_lease: 'text', to_machine: 'text', to_news: 'integer', to_retry: 'integer' },
    rows: slots.map(({ applyId, state, leaseId, machineId, news, retryMs }) => ({
      apply: applyId,
      to_state: state,
      to_lease: leaseId,
      to_machine: machineId,
      to_news: news,
      to_retry: retryMs,
    })),
    set: {
      state: 'u.to_state',
      lease_id: 'u.to_lease',
      machine_id: 'u.to_machine',
      news: 'u.to_news',
      retry_ms: 'u.to_retry',
      changed_ms: String(nowMs),
    },
    on: 't.apply_id = u.apply',
  });
}

export function batchNews(batch: OpenBatch, state: BatchState): BatchNews {
  return { batchId: batch.id, tenant: batch.tenant, businessOrderNo: batch.businessOrderNo, state };
}

export function slotNews({ applyId, batchId, tenant, state, machineId, news }: OpenSlot): SlotNews {
  return { applyId, batchId, tenant, state, machineId, news };
}
