import type { Outbox } from '@holdfast/outbox';
import type { Knex } from 'knex';
import type { Callbacks } from './callbacks.ts';
import type { topics } from './topics.ts';

/** Machines granted in one pass: small, so that batches share the room and the page has something to show. */
const perPass = 8;
const soonMs = 150;
const againMs = 2_000;

/** Says what changed, in the same transaction. */
async function say(
  trx: Knex.Transaction,
  { outbox, callbacks }: Voices,
  batch: Record<string, unknown>,
  state: BatchState | undefined,
  slots: readonly Changed[],
  nowMs: number,
): Promise<void> {
  const batchId = String(batch.id);
  const out = outbox.in(trx);
  if (state !== undefined && state !== batch.state)
    await out.put('dispatch.batch', {
      batchId,
      tenant: String(batch.tenant),
      businessOrderNo: String(batch.business_order_no),
      state,
      atMs: nowMs,
    });
  if (slots.length === 0) return;
  await out.putMany(
    'dispatch.slot',
    slots.map(({ applyId, machineId, state: slotState }) => ({
      payload: { applyId, batchId, state: slotState, machineId: slotState === 'GRANTED' ? machineId : null, power: null, atMs: nowMs },
    })),
  );
  const leased = slots.flatMap(({ machineId, ...slot }) => (machineId === null ? [] : [{ ...slot, machineId }]));
  if (leased.length > 0)
    await out.putMany(
      'asset.lease.v1',
      leased.map(({ applyId, machineId, state: slotState }) => ({
        payload: { machineId, applyId, active: slotState === 'GRANTED', atMs: nowMs },
      })),
    );
  await callbacks.tell(
    trx,
    String(batch.tenant),
    slots.map(({ applyId, machineId, state: says }) => ({
      applyId,
      batchId,
      says,
      machineId: says === 'GRANTED' ? machineId : null,
      atMs: nowMs,
    })),
  );
}

/** Who is told of changes. */
export interface Voices {
  readonly outbox: Outbox<typeof topics>;
  readonly callbacks: Callbacks;
}

type BatchState = 'FILLING' | 'FULFILLED' | 'PARTIAL' | 'FAILED';

interface Changed {
  readonly applyId: string;
  readonly machineId: string | null;
  readonly state: 'GRANTED' | 'EXPIRED';
}

/**
 * One pass over a batch, in the caller's transaction: grants free machines to slots that want one, and settles the
 * batch when it is full, or its time is up. Returns in how many ms to come again, or `undefined` when it is final.
 *
 * Machines are taken with SKIP LOCKED, so that batches do not wait for each other; the unique rules on active leases
 * (machine; room and ip; slot) hold whatever this code does.
 */
export async function allocateOnce(trx: Knex.Transaction, voices: Voices, batchId: string, nowMs: number): Promise<number | undefined> {
  const batch = await trx('dispatch_batch').where({ id: batchId }).first();
  if (!batch || (batch.state !== 'ACCEPTED' && batch.state !== 'FILLING')) return undefined;
  const wanted = await trx('dispatch_slot').where({ batch_id: batchId, state: 'WANTED' }).orderBy('apply_id').limit(perPass);
  const picking = trx('dispatch_machine').where({ package_id: batch.package_id, state: 'FREE' }).orderBy('id').limit(wanted.length);
  const sqlite = (trx.client as { dialect: string }).dialect === 'sqlite3';
  const machines = wanted.length === 0 ? [] : await (sqlite ? picking : picking.forUpdate().skipLocked());
  const changed: Changed[] = [];
  for (const [i, machine] of machines.entries()) {
    const applyId = wanted[i].apply_id;
    await trx('dispatch_machine').where({ id: machine.id }).update({ state: 'LEASED' });
    await trx('dispatch_lease').insert({
      apply_id: applyId,
      machine_id: machine.id,
      room: machine.room,
      ip: machine.ip,
      active: 1,
      granted_ms: nowMs,
    });
    await trx('dispatch_slot').where({ apply_id: applyId }).update({ state: 'GRANTED', machine_id: machine.id, granted_ms: nowMs });
    changed.push({ applyId: String(applyId), machineId: machine.id, state: 'GRANTED' });
  }
  const left = Number((await trx('dispatch_slot').where({ batch_id: batchId, state: 'WANTED' }).count({ n: '*' }).first())?.n);
  const granted = Number(batch.wanted) - left;
  const over = batch.deadline_ms === null ? machines.length < perPass : Number(batch.deadline_ms) <= nowMs;
  if (left > 0 && !over) {
    await trx('dispatch_batch').where({ id: batchId }).update({ state: 'FILLING' });
    await say(trx, voices, batch, 'FILLING', changed, nowMs);
    if (machines.length === perPass) return soonMs;
    return Math.max(1, batch.deadline_ms === null ? againMs : Math.min(againMs, Number(batch.deadline_ms) - nowMs));
  }
  const state = left === 0 ? 'FULFILLED' : granted >= Number(batch.minimum) ? 'PARTIAL' : 'FAILED';
  if (state === 'FAILED') changed.push(...(await release(trx, batchId)));
  const unfilled = await trx('dispatch_slot').where({ batch_id: batchId, state: 'WANTED' }).select('apply_id');
  changed.push(...unfilled.map((slot): Changed => ({ applyId: String(slot.apply_id), machineId: null, state: 'EXPIRED' })));
  await trx('dispatch_slot').where({ batch_id: batchId, state: 'WANTED' }).update({ state: 'EXPIRED' });
  await trx('dispatch_batch').where({ id: batchId }).update({ state, finished_ms: nowMs });
  await say(trx, voices, batch, state, changed, nowMs);
  return undefined;
}

/** Below the minimum nothing is kept: its machines are free again. */
async function release(trx: Knex.Transaction, batchId: string): Promise<Changed[]> {
  const slots = await trx('dispatch_slot').where({ batch_id: batchId, state: 'GRANTED' });
  for (const slot of slots) {
    await trx('dispatch_lease').where({ apply_id: slot.apply_id, active: 1 }).update({ active: null });
    await trx('dispatch_machine').where({ id: slot.machine_id }).update({ state: 'FREE' });
    await trx('dispatch_slot').where({ apply_id: slot.apply_id }).update({ state: 'EXPIRED', machine_id: null });
  }
  return slots.map((slot): Changed => ({ applyId: String(slot.apply_id), machineId: slot.machine_id, state: 'EXPIRED' }));
}
