import { memoryBroker } from '@holdfast/broker/memory';
import { silentLogger } from '@holdfast/core';
import { until } from '@holdfast/core/testing';
import { expect, it } from 'vitest';
import { Recorder } from './recorder.ts';
import { onEveryDatabase } from './suite.ts';

onEveryDatabase('a day later', (suite) => {
  const dayMs = 25 * 3_600_000;
  const count = async (table: string) => Number((await suite.db.knex(table).count({ n: '*' }))[0]?.n);
  const fill = async () => {
    const { knex } = suite.db;
    const now = Date.now();
    const many = <T>(make: (n: number) => T) => Array.from({ length: 2_300 }, (_, n) => make(n));
    const message = { topic: 'free', headers: '{}', body: Buffer.from('{}'), content_type: 'application/json' };
    const outbox = suite.outbox({ idWindow: '1h' });
    await outbox.now().putMany(
      'free',
      many((n) => ({ payload: { n }, options: { id: `day-${n}` } })),
    );
    await knex('outbox_message').delete();
    await knex.batchInsert(
      'outbox_dead',
      many((n) => ({ ...message, id: n, lane: 1, message_id: `d${n}`, first_put_at: now, reason: 'poison', dead_at: now })),
      100,
    );
    await knex.batchInsert(
      'inbox_message',
      many((n) => ({ consumer: 'day', message_id: `m${n}`, first_put_at: now })),
      100,
    );
    await knex.batchInsert(
      'inbox_start',
      many((n) => ({ consumer: 'day', message_id: `s${n}`, starts: 1, started_at: now })),
      100,
    );
    await knex.batchInsert(
      'inbox_parked',
      many((n) => ({ ...message, consumer: 'day', message_id: `p${n}`, reason: 'late', parked_at: now })),
      100,
    );
  };
  const tables = ['holdfast_once', 'outbox_dead', 'inbox_message', 'inbox_start', 'inbox_parked'];

  it('every table is small again where only relays and consumptions run, and young rows are still there', { timeout: 60_000 }, async () => {
    await fill();
    const outbox = suite.outbox({ publisher: new Recorder(), keepDead: '12h' });
    const inbox = suite.inbox({ retention: '12h', keepParked: '12h' });
    const relay = suite.use(outbox.relay());
    const consume = () =>
      inbox.consume({ subscriber: memoryBroker({ logger: silentLogger }), topic: 't', consumer: 'day', handler: () => undefined });
    // The idWindow of these keys was an hour; nothing else is old.
    outbox.database.clockOffsetMs = inbox.database.clockOffsetMs = 2 * 3_600_000;
    await relay.start();
    suite.use(await consume());
    await until(async () => (await count('holdfast_once')) === 0);
    await relay.stop();
    for (const table of tables.slice(1)) expect([table, await count(table)]).toEqual([table, 2_300]);
    outbox.database.clockOffsetMs = inbox.database.clockOffsetMs = dayMs;
    await relay.start();
    suite.use(await consume());
    for (const table of tables) await until(async () => (await count(table)) === 0);
    // Leases of lanes and members do not grow with restarts.
    expect(await count('holdfast_lease')).toBeLessThanOrEqual(32);
    expect(await count('holdfast_member')).toBeLessThanOrEqual(2);
    for (const table of ['message', 'parked', 'held', 'delayed']) expect(await count(`outbox_${table}`)).toBe(0);
  });

  it.each([
    ['holdfast_once', 'expires_at', 'holdfast_once_expiry'],
    ['outbox_dead', 'dead_at', 'outbox_dead_age'],
    ['inbox_message', 'first_put_at', 'inbox_message_age'],
    ['inbox_start', 'started_at', 'inbox_start_age'],
    ['inbox_parked', 'parked_at', 'inbox_parked_age'],
  ])('the purge of %s finds old rows by its index', async (table, column, index) => {
    const { knex, name } = suite.db;
    const select = `SELECT ${column} FROM ${table} WHERE ${column} < 5 ORDER BY ${column} LIMIT 1000`;
    const plan = await knex.transaction(async (trx) => {
      // The tables are small; the planner would rather read them whole.
      if (name === 'postgres') await trx.raw('SET LOCAL enable_seqscan = off');
      return JSON.stringify(
        await trx.raw(`EXPLAIN ${name === 'sqlite' ? 'QUERY PLAN ' : name === 'mysql' ? 'FORMAT = TRADITIONAL ' : ''}${select}`),
      );
    });
    expect(plan).toContain(index);
  });
});
