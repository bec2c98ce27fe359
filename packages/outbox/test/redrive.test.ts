import { until } from '@holdfast/core/testing';
import { expect, it } from 'vitest';
import { Recorder } from './recorder.ts';
import { onEveryDatabase } from './suite.ts';

const by = { actor: 'ann', reason: 'the schema is fixed' };

onEveryDatabase('a redrive of all dead letters that match', (suite) => {
  const dead = async (): Promise<number> => Number((await suite.db.knex('outbox_dead').count({ n: '*' }))[0]?.n);

  it('counts them first, publishes each once, page by page, and is on record', async () => {
    await suite.db.knex('holdfast_audit').delete();
    const publisher = new Recorder();
    const outbox = suite.outbox({ publisher });
    publisher.rule = () => 'poison';
    const relay = suite.use(outbox.relay());
    await relay.start();
    await outbox.now().putMany(
      'free',
      Array.from({ length: 450 }, (_, n) => ({ payload: { n } })),
    );
    await outbox.now().put('keyed', { k: 'a', n: 1 });
    await until(async () => (await dead()) === 451);
    publisher.rule = () => 'acked';
    const counts = async (filter: Parameters<typeof outbox.redrive>[0]) => (await outbox.redrive(filter, { dryRun: true })).matched;
    const ids = (await suite.db.knex('outbox_dead').where({ topic: 'free' }).orderBy('id').limit(5).select('id')).map(({ id }) => id);
    await suite.db.knex('outbox_dead').whereIn('id', ids).update({ tenant: 'acme', subject: 'order-1' });
    expect(await counts({})).toBe(451);
    expect(await counts({ topic: 'free' })).toBe(450);
    expect(await counts({ key: 'a' })).toBe(1);
    expect(await counts({ tenant: 'acme' })).toBe(5);
    expect(await counts({ subject: 'order-1', topic: 'free' })).toBe(5);
    expect(await counts({ reason: 'exhausted' })).toBe(0);
    expect(await counts({ failedBefore: new Date(0) })).toBe(0);
    expect(await counts({ failedAfter: new Date(0), topic: 'keyed' })).toBe(1);
    expect(await dead()).toBe(451);
    const first = await outbox.redrive({ topic: 'free' }, { ...by, rate: 1_000, limit: 60 });
    expect(first).toEqual({ matched: 60, changed: 60, after: expect.any(String) });
    const pages: number[] = [];
    const rest = await outbox.redrive({ topic: 'free' }, { ...by, onPage: ({ changed }) => pages.push(changed.length) });
    expect(rest).toEqual({ matched: 390, changed: 390, after: undefined });
    expect(pages).toEqual([200, 190]);
    await until(() => publisher.acked.length === 450);
    expect(new Set(publisher.acked.map(({ body }) => Buffer.from(body).toString())).size).toBe(450);
    const audits = await suite.db.knex('holdfast_audit').where({ action: 'outbox:redrive' }).orderBy('id');
    expect(audits.map(({ actor, subject }) => `${actor} ${String(subject).split(' ')[0]}`)).toEqual(['ann 60', 'ann 200', 'ann 190']);
    expect(await dead()).toBe(1);
    expect(await outbox.inspect().bulk.redrive({ kind: 'keyed', status: 'dead' }, by)).toMatchObject({ changed: 1 });
  });

  it('stops at its signal, between two pages', async () => {
    const publisher = new Recorder();
    const outbox = suite.outbox({ publisher });
    publisher.rule = () => 'poison';
    const relay = suite.use(outbox.relay());
    await relay.start();
    await outbox.now().putMany(
      'free',
      Array.from({ length: 30 }, (_, n) => ({ payload: { n } })),
    );
    await until(async () => (await dead()) === 30);
    await relay.stop();
    const stop = new AbortController();
    await expect(
      outbox.redrive({}, { ...by, rate: 10, signal: stop.signal, onPage: () => stop.abort(new Error('enough')) }),
    ).rejects.toThrow('enough');
    expect(await dead()).toBe(20);
  });

  it('lists by key, subject and tenant, and refuses a filter that it does not have', async () => {
    const outbox = suite.outbox();
    await outbox.now().put('keyed', { k: 'a', n: 1 }, { subject: 'order-1', tenant: 'acme' });
    await outbox.now().put('keyed', { k: 'b', n: 2 });
    expect(await outbox.list({ key: 'a' })).toHaveLength(1);
    expect(await outbox.list({ subject: 'order-1', tenant: 'acme' })).toHaveLength(1);
    expect(await outbox.list({ tenant: 'beta' })).toEqual([]);
    await expect(outbox.list({ reason: 'poison' } as never)).rejects.toThrow(
      /outbox has no filter reason; it has status, kind, key, subject/,
    );
    await expect(outbox.inspect().bulk.redrive({ status: 'parked' }, by)).rejects.toThrow(/status is "parked"; of the messages only/);
    await expect(outbox.redrive({}, {})).rejects.toThrow(/redrive needs who does it and why/);
    await expect(outbox.redrive({}, { ...by, rate: -1 })).rejects.toThrow(/rate is -1/);
    await expect(outbox.redrive({ failedBefore: 'x' as never }, by)).rejects.toThrow(/failedBefore is "x"; give a valid Date/);
  });
});
