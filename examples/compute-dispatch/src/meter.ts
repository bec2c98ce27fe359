import type { Knex } from 'knex';
import type { Invoices } from './invoices.ts';

/**
 * Draws up an invoice for each full period that a machine has run. The invoice lies in another database, so it is drawn up first, and
 * the slot remembers then how far it is billed: a crash between the two draws it up again, which changes nothing.
 */
export async function meter(knex: Knex, invoices: Invoices, nowMs: number, periodMs: number): Promise<void> {
  const due = await knex('dispatch_slot as s')
    .join('dispatch_batch as b', 'b.id', 's.batch_id')
    .where('s.power', 'ON')
    .where('s.billed_to_ms', '<=', nowMs - periodMs)
    .orderBy('s.apply_id')
    .limit(200)
    .select('s.apply_id', 's.machine_id', 's.billed_to_ms', 'b.tenant', 'b.package_id');
  if (due.length === 0) return;
  const usages = due.map((slot) => ({
    tenant: String(slot.tenant),
    applyId: String(slot.apply_id),
    machineId: String(slot.machine_id),
    packageId: String(slot.package_id),
    fromMs: Number(slot.billed_to_ms),
    toMs: Number(slot.billed_to_ms) + periodMs,
  }));
  await invoices.draw(usages, nowMs);
  for (const { applyId, fromMs, toMs } of usages)
    await knex('dispatch_slot').where({ apply_id: applyId, billed_to_ms: fromMs }).update({ billed_to_ms: toMs });
}
