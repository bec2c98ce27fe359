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
});
