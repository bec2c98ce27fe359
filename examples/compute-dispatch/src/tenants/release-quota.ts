import type { Knex } from 'knex';
import type { SlotState } from '../topics.ts';
import { groupedBy } from '../transact.ts';

/** Returns quota to the tenants of slots that will not have a machine any more. */
export async function releaseQuota(
  trx: Knex.Transaction,
  slots: readonly { readonly tenant: string; readonly state: SlotState }[],
): Promise<void> {
  const over = slots.filter(({ state }) => state === 'EXPIRED' || state === 'ENDED');
  for (const [tenant, own] of [...groupedBy(over, ({ tenant }) => tenant)].sort(([a], [b]) => (a < b ? -1 : 1)))
    await trx('dispatch_tenant').where({ id: tenant }).decrement('used_slots', own.length);
}
