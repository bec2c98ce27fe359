import { until } from '@holdfast/core/testing';
import { expect, it } from 'vitest';
import { bizType } from '../src/index.ts';
import { onEveryDatabase } from './suite.ts';
import { any } from './suite-schema.ts';

onEveryDatabase('fairness', (suite) => {
  it("starts one tenant's ten rows within a second under another's many", async () => {
    const biz = suite.create({ shared: bizType(any, { keep: 'none', concurrency: 10 }) });
    const rows = suite.db.name === 'mariadb' ? 20_000 : 60_000;
    for (let from = 0; from < rows; from += 5000)
      await biz.now().submitMany(
        'shared',
        Array.from({ length: 5000 }, () => ({})),
        { tenant: 'a' },
      );
    const lags: number[] = [];
    let ofA = 0;
    biz.handle('shared', async (context, run) => {
      if (run.tenant === 'b') lags.push(performance.now() - Number(context.at));
      else ofA += 1;
      await new Promise((resolve) => setImmediate(resolve));
    });
    await using worker = biz.worker({ stopAfter: 0 });
    await worker.start();
    await until(() => ofA > 500);
    await biz.now().submitMany(
      'shared',
      Array.from({ length: 10 }, () => ({ at: performance.now() })),
      { tenant: 'b' },
    );
    await until(() => lags.length === 10);
    expect(ofA).toBeLessThan(rows);
    expect(Math.max(...lags)).toBeLessThan(1000);
  });

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
    const biz = suite.create({ purged: bizType(any, { keep: '1s' }), kept: bizType(any, { keep: 'all' }) });
    const t = suite.db.knex('compensate_biz');
    for (const biz_type of ['purged', 'kept'])
      for (const status of ['SUCCESS', 'FAILED'])
        await t.clone().insert({ biz_type, status, context: '{}', updated_at: '2020-01-01 00:00:00' });
    expect((await biz.sweep()).purged).toBe(1);
    expect(await t.clone().where({ biz_type: 'purged' })).toMatchObject([{ status: 'FAILED' }]);
    expect(await t.clone().where({ biz_type: 'kept' })).toHaveLength(2);
  });
});
