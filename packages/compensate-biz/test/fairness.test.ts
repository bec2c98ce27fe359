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
});
