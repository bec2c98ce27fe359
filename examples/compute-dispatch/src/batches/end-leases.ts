import type { Knex } from 'knex';
import type { Tasks } from '../tasks.ts';
import { inPortions } from '../transact.ts';

/** Leases that nobody needs any more: the room is asked to release them, and until it says so (or quarantine is over) nobody gets the machine. */
export async function endLeases(trx: Knex.Transaction, leaseIds: readonly string[], nowMs: number, tasks: Tasks): Promise<void> {
  if (leaseIds.length === 0) return;
  await inPortions(leaseIds, (some) =>
    trx('dispatch_lease')
      .whereIn('id', some)
      .where({ state: 'ACTIVE' })
      .update({ state: 'RELEASING', releasing_ms: nowMs })
      .then(() => []),
  );
  await tasks.release(trx, leaseIds);
}
