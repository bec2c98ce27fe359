import { memoryBroker } from '@holdfast/broker/memory';
import { Database } from '@holdfast/core';
import { testDialects, until } from '@holdfast/core/testing';
import { createOutbox, type Outbox } from '@holdfast/outbox';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { BatchView } from '../src/batches/views.ts';
import { Invariants } from '../src/invariants.ts';
import { topics } from '../src/topics.ts';
import { startService, type TestService } from './service.ts';

/** Each verdict must be able to turn: what it watches is broken by hand, in a service that has come to rest, and mended again. */
describe.each(testDialects())('the invariants on $name', (dialect) => {
  let service: TestService;
  let database: Database;
  let outbox: Outbox<typeof topics>;
  let invariants: Invariants;
  beforeAll(async () => {
    service = await startService(dialect, { reconcileMs: 3_600_000, billingMs: 3_600_000 });
    const body = { businessOrderNo: 'watched', packageId: 'standard', count: 3, minimum: 1, applyDurationMinutes: 1 };
    const { id } = (await service.call<BatchView>('POST', '/v1/batches', { body })).body;
    await until(async () => (await service.call<BatchView>('GET', `/v1/batches/${id}`)).body.result === 'FULFILLED');
    await runTwice();
    await service.call('POST', `/v1/batches/${id}/release`);
    await until(async () => (await service.call<BatchView>('GET', `/v1/batches/${id}`)).body.state === 'ENDED');
    const parts = { knex: knex(), room: service.adapter };
    database = new Database({ knex: knex() });
    outbox = createOutbox({ knex: knex(), topics, publisher: memoryBroker() });
    invariants = new Invariants({ ...parts, database, outbox });
    await until(async () => (await broken()).length === 0);
    await service.dispatch.stop();
  });
  afterAll(async () => {
    await outbox?.close();
    await database?.close();
    await service?.stop();
  });
  /** One machine crashes, its power-off is lost, and a late command switches the machine on again: the first run is not billed. */
  const runTwice = async () => {
    const running = () => service.room.list(undefined, 1_000).machines.flatMap(({ lease }) => (lease?.power?.state === 'ON' ? lease : []));
    await until(() => running().length === 3);
    const [lease] = running();
    if (!lease) throw new Error('no machine runs');
    // So that the first run has a length.
    await new Promise((resolve) => setTimeout(resolve, 20));
    service.room.cut(lease.machineId, false);
    service.room.power([{ ...lease, to: 'ON' }]);
    await until(() => running().length === 3);
  };
  const dropIndex = (table: string, name: string) =>
    knex().schema.raw(`DROP INDEX ${name}${database.family === 'mysql' ? ` ON ${table}` : ''}`);
  const knex = () => service.db.knex;
  const broken = async (truth = service.room.truth()) =>
    (await invariants.check({ truth, quiet: true })).filter(({ holds }) => !holds).map(({ id }) => id);
  const first = async (table: string) => (await knex()(table).orderBy(table === 'dispatch_slot' ? 'apply_id' : 'id'))[0];
  const second = async (table: string) => (await knex()(table).orderBy('id'))[1];

  it.each<[string, string, () => Promise<() => Promise<unknown>>]>([
    [
      'I1',
      'a machine with two leases',
      async () => {
        await dropIndex('dispatch_lease', 'dispatch_lease_machine');
        const [one, two] = [await first('dispatch_lease'), await second('dispatch_lease')];
        await knex()('dispatch_lease').whereIn('id', [one.id, two.id]).update({ active: 1, machine_id: one.machine_id });
        return () =>
          knex()('dispatch_lease')
            .update({ active: null })
            .then(() => knex()('dispatch_lease').where({ id: two.id }).update({ machine_id: two.machine_id }));
      },
    ],
    [
      'I2',
      'a slot that is gone',
      async () => {
        const slot = await first('dispatch_slot');
        await knex()('dispatch_slot').where({ apply_id: slot.apply_id }).delete();
        return () => knex()('dispatch_slot').insert(slot);
      },
    ],
    [
      'I3',
      'a batch that never reached its minimum and ran',
      async () => {
        const { id, started_ms } = await first('dispatch_batch');
        await knex()('dispatch_batch').where({ id }).update({ started_ms: null });
        return () => knex()('dispatch_batch').where({ id }).update({ started_ms });
      },
    ],
    [
      'I4',
      'a batch without a result, long after its deadline',
      async () => {
        const { id, result, deadline_ms } = await first('dispatch_batch');
        await knex()('dispatch_batch').where({ id }).update({ result: null, deadline_ms: 1 });
        return () => knex()('dispatch_batch').where({ id }).update({ result, deadline_ms });
      },
    ],
    [
      'I5',
      'a line of a bill that was changed',
      async () => {
        const { id, ms } = await first('dispatch_charge');
        await knex()('dispatch_charge')
          .where({ id })
          .update({ ms: Number(ms) + 1 });
        return () => knex()('dispatch_charge').where({ id }).update({ ms });
      },
    ],
    [
      'I5',
      'a lease that is over, and never went off',
      async () => {
        const off = await knex()('dispatch_power_event').where({ kind: 'OFF', lease_id: (await first('dispatch_lease')).id });
        const events = off.map(({ id }) => id);
        await knex()('dispatch_power_event').whereIn('id', events).update({ lease_id: null });
        return () => knex()('dispatch_power_event').whereIn('id', events).update({ lease_id: off[0].lease_id });
      },
    ],
    [
      'I7',
      'a change that nobody was told of',
      async () => {
        const { apply_id, news } = await first('dispatch_slot');
        await knex()('dispatch_slot')
          .where({ apply_id })
          .update({ news: Number(news) + 1 });
        return () => knex()('dispatch_slot').where({ apply_id }).update({ news });
      },
    ],
    [
      'I8',
      'an event of another epoch that counts',
      async () => {
        const { id, epoch } = await first('dispatch_power_event');
        await knex()('dispatch_power_event')
          .where({ id })
          .update({ epoch: Number(epoch) + 1 });
        return () => knex()('dispatch_power_event').where({ id }).update({ epoch });
      },
    ],
    [
      'I9',
      'a machine that only the room has leased',
      async () => {
        const lease = { token: '77', machineId: 'm-000090', epoch: 50 };
        service.room.grant([{ ...lease, ip: '', network: '', parameters: {} }]);
        return async () => service.room.release([lease]);
      },
    ],
    [
      'I10',
      'an order number with two batches',
      async () => {
        await dropIndex('dispatch_batch', 'dispatch_batch_order');
        const batch = await first('dispatch_batch');
        await knex()('dispatch_batch').insert({ ...batch, id: '1' });
        return () => knex()('dispatch_batch').where({ id: '1' }).delete();
      },
    ],
  ])('%s sees %s', async (id, _what, breakIt) => {
    expect(await broken()).toEqual([]);
    const mend = await breakIt();
    try {
      expect(await broken()).toContain(id);
    } finally {
      await mend();
    }
  });

  it('I6 sees a bill that is more than was used, and one that is less though the room has said so', async () => {
    const truth = service.room.truth();
    const other = (ms: number) =>
      truth.map((lease) => ({ ...lease, intervals: lease.intervals.map(({ fromMs, toMs }) => ({ fromMs, toMs: (toMs ?? 0) + ms })) }));
    expect(await broken(other(-1))).toEqual(['I6']);
    expect(await broken(other(1))).toEqual(['I6']);
    expect(truth.map(({ intervals }) => intervals.length)).toContain(2);
    expect(await broken()).toEqual([]);
  });
});
