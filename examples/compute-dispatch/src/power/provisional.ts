import type { Knex } from 'knex';
import type { PowerEvent } from './event.ts';

/**
 * A power-off that was not reported, at the last time at which the machine is known to have run, in the customer's favour. A real power-off
 * that is reported later replaces it. Its id contains the time: a late power-on may show that the machine ran longer than first assumed.
 */
export async function provisionalOff(trx: Knex.Transaction, lease: Record<string, unknown>): Promise<PowerEvent> {
  const last = await trx('dispatch_power_event')
    .where({ lease_id: lease.id })
    .whereIn('kind', ['ON', 'OFF_FAILED'])
    .max({ at: 'occurred_ms' })
    .first();
  const occurredAtMs = Math.max(Number(last?.at ?? 0), Number(lease.seen_ms ?? 0));
  return {
    eventId: `provisional-${lease.id}-${occurredAtMs}`,
    roomId: String(lease.room),
    token: String(lease.id),
    machineId: String(lease.machine_id),
    epoch: Number(lease.epoch),
    kind: 'OFF',
    occurredAtMs,
    sequence: 0,
  };
}
