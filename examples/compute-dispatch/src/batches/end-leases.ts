import type { Knex } from 'knex';
import type { Tasks } from '../tasks.ts';
import { byKey, inPortions } from '../transact.ts';

/**
 * Ends leases that are no longer needed. The room is asked to release them; until it confirms, or quarantine ends, no other lease gets the
 * machine.
 */
export async function endLeases(trx: Knex.Transaction, leaseIds: readonly string[], nowMs: number, tasks: Tasks): Promise<void> {
  if (leaseIds.length === 0) return;
  await inPortions(leaseIds, (some) =>
    byKey(trx, 'dispatch_lease')
      .whereIn('id', some)
      .where({ state: 'ACTIVE' })
      .update({ state: 'RELEASING', releasing_ms: nowMs })
      .then(() => []),
  );
  await tasks.release(trx, leaseIds);
}
