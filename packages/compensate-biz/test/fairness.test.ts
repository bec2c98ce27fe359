import { wait } from '@holdfast/core';
import { until } from '@holdfast/core/testing';
import { expect, it } from 'vitest';
import { bizType } from '../src/index.ts';
import { onEveryDatabase } from './suite.ts';
import { any } from './suite-schema.ts';

onEveryDatabase('fairness', (suite) => {
  it('runs the more urgent first, and lets waiting make up for it', async () => {
    const biz = suite.create({ aged: bizType(any, { concurrency: 1 }) });
    const order: unknown[] = [];
    biz.handle('aged', (context) => {
      order.push(context.name);
    });
    await biz.now().submit('aged', { name: 'old' });
    await biz.now().submit('aged', { name: 'young' });
    await biz.now().submit('aged', { name: 'urgent' }, { priority: 2 });
    // Three minutes older than the rest: worth more than two steps of priority.
    await suite.db.knex('compensate_biz').where('context', 'like', '%old%').decrement('claim_rank', 180_000);
    await using worker = biz.worker();
    await worker.start();
    await until(() => order.length === 3);
    expect(order).toEqual(['old', 'urgent', 'young']);
  });

  it('purges what has been SUCCESS for longer than the type keeps it, and nothing else', async () => {
    const biz = suite.create({
      purged: bizType(any, { keep: '1s', keepFailed: 'all' }),
      kept: bizType(any, { keep: 'all', keepFailed: 'all' }),
    });
    const t = suite.db.knex('compensate_biz');
    for (const biz_type of ['purged', 'kept'])
      for (const status of ['SUCCESS', 'FAILED'])
        await t.clone().insert({ biz_type, status, context: '{}', updated_at: '2020-01-01 00:00:00' });
    expect((await biz.sweep()).purged).toBe(1);
    expect(await t.clone().where({ biz_type: 'purged' })).toMatchObject([{ status: 'FAILED' }]);
    expect(await t.clone().where({ biz_type: 'kept' })).toHaveLength(2);
  });

  /** Rows of `type`, `each` for every one of `tenants` tenants. */
  const insertTenants = async (type: string, tenants: number, each = 1) => {
    const rows = Array.from({ length: tenants * each }, (_, i) => ({
      biz_type: type,
      tenant: `t${String(i % tenants).padStart(5, '0')}`,
      context: '{}',
    }));
    for (let from = 0; from < rows.length; from += 500) await suite.db.knex('compensate_biz').insert(rows.slice(from, from + 500));
  };

  it('runs rows of every type, however many tenants the types before it in the alphabet have', async () => {
    const types = { 'b-paused': bizType(any), 'c-busy': bizType(any, { concurrency: 1 }), 'd-last': bizType(any) };
    const biz = suite.create(types);
    let release: () => void = () => undefined;
    const busy = new Promise<void>((resolve) => {
      release = resolve;
    });
    const ran: string[] = [];
    biz.handle('b-paused', () => void ran.push('b-paused'));
    biz.handle('c-busy', () => busy);
    biz.handle('d-last', () => void ran.push('d-last'));
    await biz.inspect().actions.pause('b-paused', { actor: 'test', reason: 'test' });
    for (const type of ['a-unknown', 'b-paused', 'c-busy']) await insertTenants(type, 1_100);
    const worker = biz.worker();
    await worker.start();
    // Not by its hint.
    await suite.db.knex('compensate_biz').insert({ biz_type: 'd-last', tenant: 'x', context: '{}' });
    await until(() => ran.length > 0);
    expect(ran).toEqual(['d-last']);
    // The sweep sees types of which this process knows nothing, each once.
    const unknown: unknown[] = [];
    biz.events.on('sweep:unknown', (event) => void unknown.push(event));
    await suite.db.knex('compensate_biz').insert({ biz_type: 'z-unknown', tenant: 'x', context: '{}' });
    expect((await biz.sweep()).unknown).toBe(1_101);
    expect(unknown).toContainEqual({ type: 'a-unknown', count: 1_100 });
    expect(unknown).toContainEqual({ type: 'z-unknown', count: 1 });
    release();
    await worker.stop();
    await suite.db.knex('compensate_biz').delete();
  });

  it('gives every tenant of a type its turn, also behind a thousand that always have rows', async () => {
    const biz = suite.create({ wide: bizType(any, { concurrency: 1, keep: 'none' }) });
    const ran: string[] = [];
    biz.handle('wide', async (_context, run) => {
      ran.push(run.tenant);
      await wait(1);
    });
    await insertTenants('wide', 1_000, 4);
    await suite.db.knex('compensate_biz').insert({ biz_type: 'wide', tenant: 'z', context: '{}' });
    await using worker = biz.worker();
    await worker.start();
    await until(() => ran.includes('z'));
    // The first tenants have rows left.
    expect(ran.length).toBeLessThan(4_000);
    await worker.stop();
    await suite.db.knex('compensate_biz').delete();
  });
});
