import type { Knex } from 'knex';

/** Machines granted in one pass: small, so that batches share the room and the page has something to show. */
const perPass = 8;
const soonMs = 150;
const againMs = 2_000;

/**
 * One pass over a batch, in the caller's transaction: grants free machines to slots that want one, and settles the
 * batch when it is full, or its time is up. Returns in how many ms to come again, or `undefined` when it is final.
 *
 * Machines are taken with SKIP LOCKED, so that batches do not wait for each other; the unique rules on active leases
 * (machine; room and ip; slot) hold whatever this code does.
 */
export async function allocateOnce(trx: Knex.Transaction, batchId: string, nowMs: number): Promise<number | undefined> {
  const batch = await trx('dispatch_batch').where({ id: batchId }).first();
  if (!batch || (batch.state !== 'ACCEPTED' && batch.state !== 'FILLING')) return undefined;
  const wanted = await trx('dispatch_slot').where({ batch_id: batchId, state: 'WANTED' }).orderBy('apply_id').limit(perPass);
  const picking = trx('dispatch_machine').where({ package_id: batch.package_id, state: 'FREE' }).orderBy('id').limit(wanted.length);
  const sqlite = (trx.client as { dialect: string }).dialect === 'sqlite3';
  const machines = wanted.length === 0 ? [] : await (sqlite ? picking : picking.forUpdate().skipLocked());
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
  }
  const left = Number((await trx('dispatch_slot').where({ batch_id: batchId, state: 'WANTED' }).count({ n: '*' }).first())?.n);
  const granted = Number(batch.wanted) - left;
  const over = batch.deadline_ms === null ? machines.length < perPass : Number(batch.deadline_ms) <= nowMs;
  if (left > 0 && !over) {
    await trx('dispatch_batch').where({ id: batchId }).update({ state: 'FILLING' });
    if (machines.length === perPass) return soonMs;
    return Math.max(1, batch.deadline_ms === null ? againMs : Math.min(againMs, Number(batch.deadline_ms) - nowMs));
  }
  const state = left === 0 ? 'FULFILLED' : granted >= Number(batch.minimum) ? 'PARTIAL' : 'FAILED';
  if (state === 'FAILED') await release(trx, batchId);
  await trx('dispatch_slot').where({ batch_id: batchId, state: 'WANTED' }).update({ state: 'EXPIRED' });
  await trx('dispatch_batch').where({ id: batchId }).update({ state, finished_ms: nowMs });
  return undefined;
}

/** Below the minimum nothing is kept: its machines are free again. */
async function release(trx: Knex.Transaction, batchId: string): Promise<void> {
  const slots = await trx('dispatch_slot').where({ batch_id: batchId, state: 'GRANTED' });
  for (const slot of slots) {
    await trx('dispatch_lease').where({ apply_id: slot.apply_id, active: 1 }).update({ active: null });
    await trx('dispatch_machine').where({ id: slot.machine_id }).update({ state: 'FREE' });
    await trx('dispatch_slot').where({ apply_id: slot.apply_id }).update({ state: 'EXPIRED', machine_id: null });
  }
}
