import type { Knex } from 'knex';
import { byKey, inPortions } from '../transact.ts';
import type { PowerEvent, PowerSource } from './event.ts';

/** For the test that proves the tests: without the fence an event counts for its machine's current lease, whatever its token and epoch. */
export const testHook = { fenceOff: false };

/**
 * Stores events, each once, and marks their leases to be folded. An event belongs to the lease of its token, if machine and epoch agree. An
 * event of an unknown lease waits; an event of another epoch is kept without effect.
 */
export async function storeEvents(trx: Knex.Transaction, events: readonly PowerEvent[], source: PowerSource, nowMs: number): Promise<void> {
  if (events.length === 0) return;
  const owners = await ownersOf(trx, events);
  const rows = events.map((event) => ({
    id: event.eventId,
    lease_id: owners.get(event) ?? null,
    token: event.token,
    machine_id: event.machineId,
    epoch: event.epoch,
    kind: event.kind,
    source,
    occurred_ms: event.occurredAtMs,
    sequence: event.sequence,
    stored_ms: nowMs,
  }));
  for (let from = 0; from < rows.length; from += 400)
    await trx('dispatch_power_event')
      .insert(rows.slice(from, from + 400))
      .onConflict('id')
      .ignore();
  // Locked in order, so that two of these transactions cannot deadlock.
  const leases = [...new Set(rows.flatMap(({ lease_id }) => lease_id ?? []))].sort();
  await inPortions(leases, (some) =>
    byKey(trx, 'dispatch_lease')
      .whereIn('id', some)
      .update({ fold_due_ms: 0 })
      .then(() => []),
  );
}

/** Assigns events that came before their lease was known, as after a restore. */
export async function adoptWaiting(trx: Knex.Transaction): Promise<void> {
  const waiting = await trx('dispatch_power_event as e')
    .join('dispatch_lease as l', (on) => on.on('l.id', 'e.token').andOn('l.machine_id', 'e.machine_id').andOn('l.epoch', 'e.epoch'))
    .whereNull('e.lease_id')
    .limit(1_000)
    .select('e.id', 'e.token');
  for (const { id, token } of waiting) await trx('dispatch_power_event').where({ id }).update({ lease_id: token });
  const leases = [...new Set(waiting.map(({ token }) => String(token)))].sort();
  await inPortions(leases, (some) =>
    byKey(trx, 'dispatch_lease')
      .whereIn('id', some)
      .update({ fold_due_ms: 0 })
      .then(() => []),
  );
}

async function ownersOf(trx: Knex.Transaction, events: readonly PowerEvent[]): Promise<Map<PowerEvent, string>> {
  const owners = new Map<PowerEvent, string>();
  if (testHook.fenceOff) {
    const machines = [...new Set(events.map(({ machineId }) => machineId))];
    const active = await inPortions(machines, (some) =>
      trx('dispatch_lease').whereIn('machine_id', some).where({ active: 1 }).select('id', 'machine_id'),
    );
    const byMachine = new Map(active.map((row) => [String(row.machine_id), String(row.id)]));
    for (const event of events) {
      const owner = byMachine.get(event.machineId);
      if (owner) owners.set(event, owner);
    }
    return owners;
  }
  const tokens = [...new Set(events.map(({ token }) => token))];
  const known = await inPortions(tokens, (some) => byKey(trx, 'dispatch_lease').whereIn('id', some).select('id', 'machine_id', 'epoch'));
  const byToken = new Map(known.map((row) => [String(row.id), row]));
  for (const event of events) {
    const lease = byToken.get(event.token);
    if (lease && lease.machine_id === event.machineId && Number(lease.epoch) === event.epoch) owners.set(event, event.token);
  }
  return owners;
}
