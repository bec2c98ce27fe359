import { testDialects, until } from '@holdfast/core/testing';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { BatchView, SlotView } from '../src/batches/views.ts';
import { startService, type TestService } from './service.ts';

/** What only one side knows: leases of the room that are not ours, ours that the room has lost, power that no event told. */
describe.each(testDialects())('the comparison with the room, on $name', (dialect) => {
  let service: TestService;
  let orders = 0;
  let restore = (): void => undefined;
  beforeAll(async () => {
    // By hand only, so that each test sees what one comparison does.
    service = await startService(dialect, { billingMs: 60_000, reconcileMs: 3_600_000, quarantineMs: 1_500 });
    const calm = service.room.misbehaviour;
    restore = () => {
      service.room.misbehaviour = calm;
    };
  });
  // Or a test that fails takes those after it along.
  afterEach(() => restore());
  afterAll(() => service?.stop());
  const lease = async (slot: SlotView) => service.db.knex('dispatch_lease').where({ apply_id: slot.applyId }).orderBy('id', 'desc').first();
  const slots = async (id: string) => (await service.call<{ slots: SlotView[] }>('GET', `/v1/batches/${id}/slots`)).body.slots;
  const slot = async (id: string) => (await slots(id))[0] as SlotView;
  const order = async (count = 1): Promise<string> => {
    orders += 1;
    const body = { businessOrderNo: `o-${orders}`, packageId: 'standard', count, minimum: 1, applyDurationMinutes: 5 };
    return (await service.call<BatchView>('POST', '/v1/batches', { body })).body.id;
  };
  const running = async (): Promise<string> => {
    const id = await order();
    await until(async () => (await slot(id)).state === 'RUNNING');
    return id;
  };
  const misbehave = (how: object) => {
    service.room.misbehaviour = { ...service.room.misbehaviour, ...how };
  };
  const billed = async (one: SlotView) =>
    Number((await service.db.knex('dispatch_charge').where({ apply_id: one.applyId }).sum({ ms: 'ms' }).first())?.ms ?? 0);
  const trueMs = (token: string) =>
    service.room
      .truth()
      .filter((one) => one.token === token)
      .flatMap(({ intervals }) => intervals)
      .reduce((sum, { fromMs, toMs }) => sum + ((toMs ?? fromMs) - fromMs), 0);

  it('stores power that no event told, with the time at which it happened', async () => {
    misbehave({ losePercent: 100 });
    const id = await order();
    await until(async () => (await slot(id)).state === 'STARTING');
    await until(() => service.room.truth().some(({ intervals }) => intervals.length === 1));
    expect((await service.dispatch.reconcile()).corrected).toBe(1);
    await until(async () => (await slot(id)).state === 'RUNNING');
    const one = await slot(id);
    const token = String((await lease(one)).id);
    // It loses power, and nobody hears of it.
    service.room.cut(one.machineId ?? '', false);
    await service.dispatch.reconcile();
    await until(async () => (await slot(id)).state === 'ENDED');
    await until(async () => (await billed(one)) === trueMs(token), { what: 'billed as it was' });
    misbehave({ losePercent: 0 });
  });

  it('hears of a machine that went off and on again, though neither was told, and never bills the time between', async () => {
    const id = await running();
    const one = await slot(id);
    const row = await lease(one);
    const runs = () => service.room.truth().find(({ token }) => token === String(row.id))?.intervals.length;
    misbehave({ losePercent: 100 });
    service.room.cut(one.machineId ?? '', false);
    await new Promise((resolve) => setTimeout(resolve, 60));
    service.room.power([{ token: String(row.id), machineId: String(row.machine_id), epoch: Number(row.epoch), to: 'ON' }]);
    await until(() => runs() === 2);
    expect((await service.dispatch.reconcile()).corrected).toBe(1);
    expect((await service.dispatch.reconcile()).corrected).toBe(0);
    misbehave({ losePercent: 0 });
    await until(async () => (await service.call('POST', `/v1/batches/${id}/release`)).status === 202);
    await until(async () => (await service.call<BatchView>('GET', `/v1/batches/${id}`)).body.state === 'ENDED');
    const second = service.room.truth().find(({ token }) => token === String(row.id))?.intervals[1];
    await until(async () => (await billed(one)) === (second?.toMs ?? 0) - (second?.fromMs ?? 0), {
      what: 'the second run is billed, and it alone',
    });
  });

  it('releases what the room has leased and nobody here has', async () => {
    const machine = service.room.list(undefined, 96).machines.at(-1);
    service.room.grant([{ token: '77', machineId: machine?.machineId ?? '', epoch: 50, ip: '', network: '', parameters: {} }]);
    const there = () => service.room.list(undefined, 96).machines.some((one) => one.lease?.token === '77');
    expect(there()).toBe(true);
    expect((await service.dispatch.reconcile()).orphans).toBe(1);
    expect(there()).toBe(false);
  });

  it('closes a lease that the room has lost, at the last time it was seen to run; the truth, when it comes, corrects it', async () => {
    const id = await running();
    const one = await slot(id);
    const row = await lease(one);
    await service.dispatch.reconcile();
    const seen = Number((await lease(one)).seen_ms);
    // The room ends it, tells nobody, and does not know it any more.
    misbehave({ losePercent: 100 });
    await new Promise((resolve) => setTimeout(resolve, 50));
    service.room.release([{ token: String(row.id), machineId: String(row.machine_id), epoch: Number(row.epoch) }]);
    misbehave({ losePercent: 0 });
    expect((await service.dispatch.reconcile()).lost).toBe(0);
    expect((await slot(id)).state).toBe('RUNNING');
    expect((await service.dispatch.reconcile()).lost).toBe(1);
    await until(async () => (await slot(id)).state === 'ENDED');
    const guess = await service.db.knex('dispatch_power_event').where({ lease_id: row.id, source: 'provisional' }).first();
    expect(Number(guess.occurred_ms)).toBe(seen);
    // The room's answer to the release that follows knows better.
    await until(async () => (await lease(one)).state === 'RELEASED');
    await until(async () => (await billed(one)) === trueMs(String(row.id)), { what: 'corrected' });
    expect(await service.call('GET', `/v1/slots/${one.applyId}/invoices`)).toMatchObject({ status: 200 });
  });

  it('lets nobody have a machine before its release is confirmed, or quarantine is over; its next lease has a higher epoch', async () => {
    const id = await order();
    // Before its machine is up the batch is being filled.
    expect((await service.call('POST', `/v1/batches/${id}/release`)).status).toBe(409);
    await until(async () => (await slot(id)).state === 'RUNNING');
    const one = await slot(id);
    const row = await lease(one);
    misbehave({ lostAnswerPercent: 100 });
    await service.call('POST', `/v1/slots/${one.applyId}/power`, { body: { desired: 'OFF' } });
    await until(async () => (await lease(one)).state === 'RELEASING');
    const machine = async () => service.db.knex('dispatch_machine').where({ id: row.machine_id }).first();
    expect((await machine()).state).toBe('HELD');
    await until(async () => (await lease(one)).state === 'RELEASED', { withinMs: 15_000 });
    expect(Number((await lease(one)).released_ms) - Number((await lease(one)).releasing_ms)).toBeGreaterThanOrEqual(1_500);
    expect(await machine()).toMatchObject({ state: 'FREE', epoch: Number(row.epoch) });
    misbehave({ lostAnswerPercent: 0 });
    await service.db.knex('dispatch_machine').whereNot({ id: row.machine_id }).where({ state: 'FREE' }).update({ state: 'DOWN' });
    const next = await running();
    expect(await lease(await slot(next))).toMatchObject({ machine_id: row.machine_id, epoch: Number(row.epoch) + 1 });
    await service.dispatch.reconcile();
    expect(Number((await service.db.knex('dispatch_machine').where({ state: 'FREE' }).count({ n: '*' }).first())?.n)).toBeGreaterThan(50);
  });

  it('bills nobody for what ran after quarantine was over, in a room that hears of the release only then', async () => {
    // Given back while it is being switched on; nothing of that reaches the room, where it goes on.
    misbehave({ switchMs: 600 });
    const id = await order();
    await until(async () => (await slot(id)).state === 'STARTING');
    const one = await slot(id);
    const token = String((await lease(one)).id);
    const { release } = service.room;
    service.room.release = () => {
      throw new Error('out of reach');
    };
    try {
      await service.call('POST', `/v1/slots/${one.applyId}/power`, { body: { desired: 'OFF' } });
      await until(async () => (await lease(one)).state === 'RELEASED', { withinMs: 15_000 });
    } finally {
      service.room.release = release;
      misbehave({ switchMs: 50 });
    }
    const ended = Number((await lease(one)).released_ms);
    await service.dispatch.reconcile();
    const truth = () => service.room.truth().find((of) => of.token === token)?.intervals ?? [];
    await until(() => truth().every(({ toMs }) => toMs !== null));
    const [ran] = truth();
    expect(Number(ran?.fromMs)).toBeLessThan(ended);
    expect(Number(ran?.toMs)).toBeGreaterThan(ended);
    await until(async () => (await billed(one)) === ended - Number(ran?.fromMs), { what: 'billed to the end of the lease' });
    const verdicts = async () => (await service.dispatch.invariants.check({ truth: service.room.truth() })).filter(({ holds }) => !holds);
    await until(async () => (await verdicts()).length === 0, { what: 'every invariant' });
  });

  it('tries another machine where one can’t be switched on, and again where one can’t be switched off', async () => {
    misbehave({ failOnPercent: 100 });
    const id = await order(2);
    await until(async () => Number((await service.db.knex('dispatch_lease').where({ batch_id: id }).count({ n: '*' }).first())?.n) >= 4);
    misbehave({ failOnPercent: 0, failOffPercent: 100 });
    await until(async () => (await slots(id)).every(({ state }) => state === 'RUNNING'));
    const [one] = (await slots(id)) as [SlotView, SlotView];
    await service.call('POST', `/v1/slots/${one.applyId}/power`, { body: { desired: 'OFF' } });
    await until(async () => (await slot(id)).flag === 'power-off-failed');
    expect(await slot(id)).toMatchObject({ state: 'RUNNING', desired: 'OFF', power: 'ON' });
    misbehave({ failOffPercent: 0 });
    await until(async () => (await slot(id)).state === 'ENDED');
    expect((await slot(id)).flag).toBeNull();
  });

  it('gives back a machine that was to be switched off before it ran', async () => {
    misbehave({ switchMs: 30_000 });
    const id = await order();
    await until(async () => (await slot(id)).state === 'STARTING');
    const one = await slot(id);
    expect((await service.call('POST', `/v1/slots/${one.applyId}/power`, { body: { desired: 'OFF' } })).body.state).toBe('EXPIRED');
    await until(async () => (await lease(one)).state === 'RELEASED');
    expect(await billed(one)).toBe(0);
    misbehave({ switchMs: 50 });
  });

  it('bills no machine for ever that its room has forgotten, though its power-on comes after its release', async () => {
    const id = await running();
    const one = await slot(id);
    const row = await lease(one);
    const on = await service.db.knex('dispatch_power_event').where({ lease_id: row.id, kind: 'ON' }).first();
    misbehave({ losePercent: 100 });
    service.room.release([{ token: String(row.id), machineId: String(row.machine_id), epoch: Number(row.epoch) }]);
    misbehave({ losePercent: 0 });
    // As if the power-on had not come yet, and the room had answered to the release that it knows of no power.
    await service.db.knex('dispatch_power_event').where({ lease_id: row.id }).delete();
    await service.db
      .knex('dispatch_lease')
      .where({ id: row.id })
      .update({ state: 'RELEASED', active: null, released_ms: Date.now(), power: null });
    const late = {
      eventId: 'late-on',
      roomId: 'room-1',
      machineId: row.machine_id,
      token: String(row.id),
      epoch: Number(row.epoch),
      kind: 'ON',
      occurredAtMs: Number(on.occurred_ms),
      sequence: Number(on.sequence),
    };
    await service.call('POST', '/v1/room/events', { as: 'room', body: { events: [late] } });
    await until(async () => (await slot(id)).state === 'ENDED');
    expect(await lease(one)).toMatchObject({ power: 'OFF', fold_due_ms: null });
    expect(await billed(one)).toBeLessThanOrEqual(trueMs(String(row.id)));
    expect(await service.db.knex('dispatch_power_event').where({ lease_id: row.id, source: 'provisional' })).toHaveLength(1);
  });

  it('keeps events of a lease that is not known yet, and counts them when it is', async () => {
    const id = await running();
    const one = await slot(id);
    const row = await lease(one);
    await service.call('POST', `/v1/slots/${one.applyId}/power`, { body: { desired: 'OFF' } });
    await until(async () => (await lease(one)).state === 'RELEASED' && (await billed(one)) > 0);
    // Another lease of the slot, as one that a restore has lost: first its events, then its row.
    const event = (kind: string, occurredAtMs: number, sequence: number) => ({
      eventId: `early-${kind}`,
      roomId: 'room-1',
      machineId: row.machine_id,
      token: '4242',
      epoch: 99,
      kind,
      occurredAtMs,
      sequence,
    });
    await service.call('POST', '/v1/room/events', { as: 'room', body: { events: [event('OFF', 5_000, 2), event('ON', 2_000, 1)] } });
    const waiting = () => service.db.knex('dispatch_power_event').where({ token: '4242' }).whereNull('lease_id');
    await until(async () => (await waiting()).length === 2);
    await service.db.knex('dispatch_lease').insert({
      ...(await lease(one)),
      id: '4242',
      epoch: 99,
      granted_ms: 1_000,
      released_ms: 9_000,
      power: null,
      billed_to_ms: null,
      billed_ms: 0,
      charges: 0,
    });
    await service.dispatch.reconcile();
    expect(await waiting()).toEqual([]);
    const ms = async () => Number((await service.db.knex('dispatch_lease').where({ id: '4242' }).first()).billed_ms);
    await until(async () => (await ms()) === 3_000);
    // It never was in the room: nothing of it is to be compared with the truth.
    for (const [table, column] of [
      ['dispatch_charge', 'lease_id'],
      ['dispatch_power_event', 'lease_id'],
      ['dispatch_lease', 'id'],
    ] as const)
      await service.db
        .knex(table)
        .where({ [column]: '4242' })
        .delete();
  });

  it('holds every invariant after all of it', async () => {
    const broken = async () => (await service.dispatch.invariants.check({ truth: service.room.truth() })).filter(({ holds }) => !holds);
    await until(async () => (await broken()).length === 0, { withinMs: 10_000 }).catch(() => undefined);
    expect(await broken()).toEqual([]);
  });
});
