import { InvalidArgumentError, setCheckpointHook } from '@holdfast/core';
import { until } from '@holdfast/core/testing';
import { afterEach, beforeAll, expect, it } from 'vitest';
import { Recorder } from './recorder.ts';
import { onEveryDatabase } from './suite.ts';

interface Invoice extends Record<string, unknown> {
  id: string;
  amount: number;
}

onEveryDatabase('a table with a state column', (suite) => {
  beforeAll(async () => {
    await suite.db.knex.schema.createTable('invoice', (t) => {
      t.bigInteger('id').primary();
      t.integer('amount');
      t.integer('mq_state').defaultTo(0);
      t.integer('version').defaultTo(1);
    });
  });
  afterEach(() => setCheckpointHook(undefined));
  const stateOf = async (id: string) => (await suite.db.knex('invoice').where({ id }).first('mq_state', 'version')) as object;
  const big = '1454351703703945216';
  const tracked = (publisher: Recorder, how: { version: string } | { insertOnly: true } = { version: 'version' }) =>
    suite.outbox({ publisher }).track<Invoice>('invoice', {
      ...how,
      message: (row) => ({ topic: 'invoices', key: String(row.id), payload: { n: row.amount } }),
    });

  it('publishes rows after their commit, and says so in their state', async () => {
    const publisher = new Recorder();
    const invoices = tracked(publisher);
    await suite.db.knex.transaction(async (trx) => {
      await trx('invoice').insert({ id: big, amount: 7 });
      await invoices.in(trx).publish(big);
      expect(publisher.acked).toHaveLength(0);
    });
    await suite.db.knex
      .transaction(async (trx) => {
        await trx('invoice').insert({ id: '8', amount: 8 });
        await invoices.in(trx).publish('8');
        throw new Error('rolled back');
      })
      .catch(() => undefined);
    await until(() => publisher.acked.length === 1);
    await invoices.flush();
    expect(publisher.acked.map(({ id }) => id)).toEqual([`invoice:${big}:1`]);
    expect(await stateOf(big)).toEqual({ mq_state: 1, version: 1 });
    expect(await invoices.publish([big])).toEqual({ sent: 0, failed: 0, changed: 0 });
  });

  it('leaves what failed unsent, marks what can never be sent as failed, and sends both when asked', async () => {
    const publisher = new Recorder();
    const invoices = tracked(publisher);
    await suite.db.knex('invoice').insert([
      { id: '21', amount: 21 },
      { id: '22', amount: 22 },
    ]);
    publisher.rule = ({ key }) => (key === '21' ? 'retriable' : 'poison');
    expect(await invoices.publish(['21', '22'])).toEqual({ sent: 0, failed: 2, changed: 0 });
    expect([await stateOf('21'), await stateOf('22')]).toMatchObject([{ mq_state: 0 }, { mq_state: 2 }]);
    publisher.rule = () => 'acked';
    expect(await invoices.publish(['21', '22'])).toEqual({ sent: 2, failed: 0, changed: 0 });
  });

  it('leaves a row of which no message can be made, and sends its neighbours', async () => {
    const publisher = new Recorder();
    const invoices = suite.outbox({ publisher }).track<Invoice>('invoice', {
      version: 'version',
      message: (row) => {
        if (row.amount === 52) throw new Error('no customer');
        return { topic: 'invoices', key: row.id, payload: { n: row.amount === 53 ? 53n : row.amount } };
      },
    });
    await suite.db.knex('invoice').insert([51, 52, 53, 54].map((n) => ({ id: String(n), amount: n })));
    expect(await invoices.publish(['51', '52', '53', '54'])).toEqual({ sent: 2, failed: 2, changed: 0 });
    expect(publisher.acked.map(({ key }) => key)).toEqual(['51', '54']);
    expect([await stateOf('52'), await stateOf('53')]).toMatchObject([{ mq_state: 0 }, { mq_state: 0 }]);
  });

  /** Version 1 is with the broker when the row becomes version 2. */
  const changeWhilePublishing = async (id: string, how?: { insertOnly: true }) => {
    const publisher = new Recorder();
    const invoices = tracked(publisher, how);
    await suite.db.knex('invoice').insert({ id, amount: 1 });
    let once = true;
    setCheckpointHook(async (name) => {
      if (name !== 'track:published' || !once) return;
      once = false;
      await suite.db.knex('invoice').where({ id }).update({ amount: 2, version: 2, mq_state: 0 });
    });
    await invoices.publish([id]);
    setCheckpointHook(undefined);
    return { publisher, invoices };
  };

  it('does not mark a row as sent that changed while it was being published', async () => {
    const { publisher, invoices } = await changeWhilePublishing('31');
    expect(await stateOf('31')).toEqual({ mq_state: 0, version: 2 });
    expect(await invoices.publish(['31'])).toMatchObject({ sent: 1 });
    expect(publisher.acked.map(({ body }) => Buffer.from(body).toString())).toEqual(['{"n":1}', '{"n":2}']);
  });

  it('(control) would lose the second version without a version column', async () => {
    await changeWhilePublishing('41', { insertOnly: true });
    expect(await stateOf('41')).toEqual({ mq_state: 1, version: 2 });
  });

  it('refuses a table without a version, unless its rows never change', () => {
    const outbox = suite.outbox({ publisher: new Recorder() });
    expect(() => outbox.track('invoice', { message: () => ({ topic: 't', payload: 1 }) })).toThrow(InvalidArgumentError);
    expect(() => outbox.track('invoice', { message: () => ({ topic: 't', payload: 1 }) })).toThrow(/insertOnly/);
  });

  /** Types of columns that two changes may leave with the same value. */
  const coarse = {
    sqlite: ['DATETIME', 'TIMESTAMP', 'DATE', 'REAL', 'BOOLEAN'],
    postgres: ['TIMESTAMPTZ(0)', 'TIMESTAMPTZ', 'TIMESTAMP(6)', 'DATE', 'TIME', 'INTERVAL', 'DOUBLE PRECISION', 'BOOLEAN'],
    mysql: ['DATETIME', 'DATETIME(6)', 'TIMESTAMP NULL', 'TIMESTAMP(3) NULL', 'DATE', 'TIME', 'YEAR', 'DOUBLE', 'BOOLEAN'],
    mariadb: ['DATETIME', 'DATETIME(6)', 'TIMESTAMP NULL', 'TIMESTAMP(3) NULL', 'DATE', 'TIME', 'YEAR', 'FLOAT', 'BOOLEAN'],
  };
  const fine = ['INTEGER', 'BIGINT', 'NUMERIC(20)', 'VARCHAR(40)'];

  it('refuses a version that two changes may have in common, before anything is published or committed', async () => {
    const publisher = new Recorder();
    const { knex, name } = suite.db;
    for (const [i, type] of [...coarse[name], ...fine].entries()) {
      const table = `versioned_${i}`;
      await knex.raw(`CREATE TABLE ${table} (id BIGINT NOT NULL PRIMARY KEY, mq_state INTEGER NOT NULL DEFAULT 0, seen ${type})`);
      const rows = suite.outbox({ publisher }).track(table, { version: 'seen', message: () => ({ topic: 't', payload: 1 }) });
      const inTransaction = () =>
        knex.transaction(async (trx) => {
          await trx.raw(`INSERT INTO ${table} (id, seen) VALUES (1, ${fine.includes(type) ? "'7'" : 'NULL'})`);
          await rows.in(trx).publish(1);
        });
      if (fine.includes(type)) {
        await inTransaction();
        await rows.flush();
        expect(await knex(table).where({ mq_state: 1 })).toHaveLength(1);
        publisher.acked.length = 0;
        continue;
      }
      await expect(inTransaction(), type).rejects.toThrow(/two changes can have in common.*version = version \+ 1/);
      await expect(rows.publish([1]), type).rejects.toThrow(InvalidArgumentError);
      expect(await knex(table).select('id')).toEqual([]);
    }
    expect(publisher.acked).toEqual([]);
  });

  it('publishes no row whose version is NULL, or a time written as text', async () => {
    const publisher = new Recorder();
    const { knex } = suite.db;
    await knex.raw('CREATE TABLE loose (id BIGINT NOT NULL PRIMARY KEY, mq_state INTEGER NOT NULL DEFAULT 0, seen VARCHAR(40))');
    await knex('loose').insert([
      { id: 1, seen: null },
      { id: 2, seen: '2026-01-01 00:00:00' },
      { id: 3, seen: '2026-01-01T00:00:00.123456Z' },
      { id: 4, seen: '9d1c2d1e-2c0f-4e0a-8f2a-2d1c6f2b7a10' },
    ]);
    const rows = suite
      .outbox({ publisher })
      .track<{ id: string }>('loose', { version: 'seen', message: ({ id }) => ({ topic: 't', payload: id }) });
    expect(await rows.publish([1, 2, 3, 4])).toEqual({ sent: 1, failed: 3, changed: 0 });
    expect(await knex('loose').where({ mq_state: 0 })).toHaveLength(3);
    expect(publisher.acked.map(({ id }) => id)).toEqual(['loose:4:9d1c2d1e-2c0f-4e0a-8f2a-2d1c6f2b7a10']);
  });
});
