import type { Message, Publisher } from '@holdfast/broker';
import { reject } from '@holdfast/broker';
import type { Knex } from 'knex';
import type { Voices } from './allocate.ts';
import { machinePower, powerTopic } from './topics.ts';

/**
 * A power event from the room: stored first, and then folded with all there are of its slot, in the order in which they occurred.
 * Events that come late, twice or in any order give one result. The change goes out in the same transaction.
 */
export async function recordPower({ outbox, callbacks }: Voices, message: Message, trx: Knex.Transaction): Promise<unknown> {
  const parsed = machinePower.safeParse(JSON.parse(Buffer.from(message.body).toString()));
  if (!parsed.success)
    return reject(`not a power event: ${parsed.error.issues.map(({ path, message: what }) => `${path.join('.')} ${what}`).join('; ')}`);
  const event = parsed.data;
  // Events of a slot take turns.
  const locking = trx('dispatch_slot').where({ apply_id: event.applyId }).first();
  const slot = await ((trx.client as { dialect: string }).dialect === 'sqlite3' ? locking : locking.forUpdate());
  await trx('dispatch_power_event').insert({
    id: message.id,
    apply_id: event.applyId,
    machine_id: event.machineId,
    power: event.power,
    occurred_ms: event.occurredAtMs,
    sequence: event.sequence,
  });
  // Of a slot that is not ours (yet): the event is kept.
  if (!slot || slot.machine_id !== event.machineId) return undefined;
  const last = await trx('dispatch_power_event')
    .where({ apply_id: event.applyId, machine_id: event.machineId })
    .orderBy([
      { column: 'occurred_ms', order: 'desc' },
      { column: 'sequence', order: 'desc' },
      { column: 'id', order: 'desc' },
    ])
    .first();
  if (last.power === slot.power) return undefined;
  await trx('dispatch_slot')
    .where({ apply_id: event.applyId })
    .update({ power: last.power, billed_to_ms: last.power === 'ON' ? Number(last.occurred_ms) : null });
  await outbox.in(trx).put('dispatch.slot', {
    applyId: event.applyId,
    batchId: String(slot.batch_id),
    state: slot.state,
    machineId: event.machineId,
    power: last.power,
    atMs: Number(last.occurred_ms),
  });
  const batch = await trx('dispatch_batch').where({ id: slot.batch_id }).first('tenant');
  await callbacks.tell(trx, String(batch.tenant), [
    {
      applyId: event.applyId,
      batchId: String(slot.batch_id),
      says: last.power === 'ON' ? 'POWER_ON' : 'POWER_OFF',
      sequence: Number(last.sequence),
      machineId: event.machineId,
      atMs: Number(last.occurred_ms),
    },
  ]);
  return undefined;
}

/**
 * The simulated room switches machines on that were granted and says so. One in four events it sends twice, some a little late. Its
 * ids say what happened, so a repeat after a crash is the same event.
 */
export async function switchOn(knex: Knex, room: Publisher, nowMs: number): Promise<void> {
  const granted = await knex('dispatch_slot')
    .where({ state: 'GRANTED' })
    .whereNull('power')
    .whereNotNull('machine_id')
    .orderBy('apply_id')
    .limit(50);
  const events = granted.map((slot, i): Message => {
    const event = {
      machineId: slot.machine_id,
      applyId: String(slot.apply_id),
      power: 'ON',
      occurredAtMs: nowMs - (i % 3) * 40,
      sequence: 1,
    };
    return {
      id: `power-${slot.apply_id}-on`,
      topic: powerTopic,
      key: slot.machine_id,
      headers: { ce_time: new Date(nowMs).toISOString() },
      body: Buffer.from(JSON.stringify(event)),
      contentType: 'application/json',
    };
  });
  if (events.length > 0) await room.publish([...events, ...events.filter((_, i) => i % 4 === 0)]);
}
