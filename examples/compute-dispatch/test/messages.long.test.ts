import { silentLogger } from '@holdfast/core';
import { type TestDialect, testDialects, until } from '@holdfast/core/testing';
import { describe, expect, it } from 'vitest';
import { openBroker } from '../src/broker.ts';
import { onProcesses } from './processes.ts';

const { HOLDFAST_KAFKA_BROKERS: brokers, HOLDFAST_RABBITMQ_URL: rabbitUrl } = process.env;

const setups = testDialects().flatMap((dialect) => [
  { dialect, name: `${dialect.name} with its own table`, broker: undefined },
  ...(dialect.name === 'postgres' && brokers ? [{ dialect, name: 'postgres with Kafka', broker: `kafka://${brokers}` }] : []),
  ...(dialect.name === 'postgres' && rabbitUrl ? [{ dialect, name: 'postgres with RabbitMQ', broker: rabbitUrl }] : []),
]);

const stranger = {
  eventId: 'stranger',
  roomId: 'room-9',
  machineId: 'm-9',
  token: '9',
  epoch: 1,
  kind: 'OFF',
  occurredAtMs: 1,
  sequence: 1,
};

/** The whole service as its users run it: a process of its own, its HTTP face, its tables. */
describe.each(setups)('messages of compute-dispatch on $name', ({ dialect, broker }) => {
  const processes = onProcesses(dialect);
  const env = { DISPATCH_MACHINES: '200', ...(broker === undefined ? {} : { DISPATCH_BROKER_URL: broker }) };
  const count = async (table: string, where: object = {}) => Number((await processes.db.knex(table).where(where).count({ n: '*' }))[0]?.n);

  it('go out with the change, come in once, and reach the asset service', async () => {
    const { address, call } = await processes.start(env);
    await processes.start({ ...env, DISPATCH_ROOM_URL: '' }, '--worker');
    await until(async () => (await fetch(`${address}/readyz`)).status === 200, { withinMs: 30_000, what: 'ready' });
    const { status, body } = await call('POST', '/v1/batches', {
      businessOrderNo: 'whole',
      packageId: 'standard',
      count: 30,
      minimum: 1,
      applyDurationMinutes: 2,
    });
    expect(status).toBe(202);
    // Granted, switched on by the room, and told to the asset service.
    await until(async () => (await count('dispatch_slot', { state: 'RUNNING' })) === 30, { withinMs: 40_000, what: 'all machines on' });
    await until(async () => (await count('asset_lease', { active: 1 })) === 30, { withinMs: 20_000, what: 'the asset service knows all' });
    expect(await count('dispatch_power_event', { source: 'room' })).toBe(30);
    await until(async () => (await call('GET', `/v1/batches/${body.id}`)).body.state === 'FULFILLED');
    await until(async () => (await count('outbox_message')) === 0, { withinMs: 20_000, what: 'nothing waits' });
    expect(await count('outbox_dead')).toBe(0);
    const heard = await until(
      async () => {
        const { timeline } = (
          await call<{ timeline: { by: string; of: string; what: string }[] }>('GET', `/v1/batches/${body.id}/timeline`)
        ).body;
        const some = timeline.filter(({ by }) => by === 'inbox');
        return some.length === 30 * 2 + 3 ? some : undefined;
      },
      { withinMs: 20_000, what: 'the timeline is whole' },
    );
    expect(heard.filter(({ of }) => of === 'batch').map(({ what }) => what)).toEqual(['ACCEPTED', 'FILLING', 'FULFILLED']);
    expect(heard.filter(({ what }) => what === 'GRANTED')).toHaveLength(30);
    expect(heard.filter(({ what }) => what === 'RUNNING')).toHaveLength(30);
    // What comes over the broker and is no power event is set aside, counted, and shown.
    const publisher = await openBroker(broker, processes.db.knex, silentLogger);
    const bodies = ['{', 'null', '{"eventId":"x"}', JSON.stringify({ ...stranger, epoch: -1 }), JSON.stringify(stranger)];
    await publisher.publish(
      bodies.map((text, i) => ({
        id: `stray-${body.id}-${i}`,
        topic: 'machine.power.v1',
        key: 'm',
        headers: { ce_time: new Date().toISOString() },
        body: Buffer.from(text),
        contentType: 'application/json',
      })),
    );
    const strays = async () => (await call('GET', '/v1/parked-events', undefined, 'admin')).body;
    await until(async () => (await strays()).unreadable.count === 4 && (await strays()).foreign.count === 1, {
      withinMs: 20_000,
      what: 'strays are seen',
    });
    await publisher.close();
    const leases = await processes.db.knex('asset_lease').select('machine_id', 'apply_id');
    const slots = await processes.db.knex('dispatch_slot').select('machine_id', 'apply_id');
    expect(leases.map((row) => `${row.machine_id} ${row.apply_id}`).sort()).toEqual(
      slots.map((row) => `${row.machine_id} ${row.apply_id}`).sort(),
    );
  }, 120_000);
});

describe('a broker that is not there', () => {
  const processes = onProcesses(testDialects()[0] as TestDialect);

  it('is no reason to refuse work: the service starts, accepts, and says that it is not ready', async () => {
    const { address, call } = await processes.start({ DISPATCH_BROKER_URL: 'amqp://127.0.0.1:1', LOG_LEVEL: 'silent' });
    expect((await fetch(`${address}/readyz`)).status).toBe(503);
    const answer = await call('POST', '/v1/batches', {
      businessOrderNo: 'alone',
      packageId: 'standard',
      count: 3,
      minimum: 1,
      applyDurationMinutes: 1,
    });
    expect(answer.status).toBe(202);
    const { knex } = processes.db;
    await until(async () => Number((await knex('dispatch_slot').whereIn('state', ['STARTING', 'RUNNING']).count({ n: '*' }))[0]?.n) === 3);
    expect(Number((await knex('outbox_message').count({ n: '*' }))[0]?.n)).toBeGreaterThanOrEqual(3 + 2);
  });
});
