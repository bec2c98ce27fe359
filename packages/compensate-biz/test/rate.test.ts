import { wait } from '@holdfast/core';
import { until } from '@holdfast/core/testing';
import { expect, it } from 'vitest';
import { bizType } from '../src/index.ts';
import { onEveryDatabase } from './suite.ts';
import { any } from './suite-schema.ts';

onEveryDatabase('rate', (suite) => {
  const many = (n: number) => Array.from({ length: n }, (_, i) => ({ i }));
  /** The least time between a start and the one that is `limit` starts later. */
  const closest = (times: number[], limit: number) => {
    const sorted = [...times].sort((a, b) => a - b);
    return Math.min(...sorted.slice(limit).map((at, i) => at - (sorted[i] ?? 0)));
  };

  it.each([
    ['worker', 'handle'],
    ['all', 'handle'],
    ['worker', 'handleBatch'],
    ['all', 'handleBatch'],
  ] as const)('counts what starts, not what is asked for (%s, %s)', async (scope, how) => {
    const type = `one-by-one-${scope}-${how}`;
    const biz = suite.create({ [type]: bizType(any, { rate: { limit: 10, per: '1h', scope } }) });
    let ran = 0;
    if (how === 'handle') biz.handle(type, () => void (ran += 1));
    else biz.handleBatch(type, { size: 3 }, (items) => void (ran += items.length));
    await using worker = biz.worker();
    await worker.start();
    for (let n = 1; n <= 10; n++) {
      // By its hint, or by a poll, which asks for as many rows as there is room for.
      if (n % 2 === 0) await biz.now().submit(type, { n });
      else {
        await suite.db.knex('compensate_biz').insert({ biz_type: type, context: '{}' });
        biz.wake();
      }
      await until(() => ran === n);
    }
  });

  it.each(['worker', 'all'] as const)('gives back what a suspect or a full cap did not use (%s)', async (scope) => {
    const type = `used-${scope}`;
    const biz = suite.create({
      [type]: bizType(any, { concurrency: 4, globalConcurrency: 2, rate: { limit: 10, per: '1h', scope } }),
    });
    let ran = 0;
    biz.handle(type, async () => {
      await wait(2);
      ran += 1;
    });
    await biz.now().submitMany(type, many(10));
    const [first, second] = await suite.db.knex('compensate_biz').where({ biz_type: type }).orderBy('id').limit(2);
    await suite.db.knex('compensate_biz').where({ id: first.id }).update({ lost: 1 });
    await suite.db.knex('compensate_biz').where({ id: second.id }).update({ lost: 2 });
    await using worker = biz.worker();
    await worker.start();
    await until(() => ran === 10);
  });

  it('lets no more than the limit start in any period', async () => {
    const limit = 5;
    const biz = suite.create({ own: bizType(any, { concurrency: 50, rate: { limit, per: '200ms' } }) });
    const starts: number[] = [];
    biz.handle('own', () => void starts.push(performance.now()));
    await biz.now().submitMany('own', many(22));
    await using worker = biz.worker();
    await worker.start();
    await until(() => starts.length === 22);
    // A start follows the claim that counts it by the time that a claim takes.
    expect(closest(starts, limit)).toBeGreaterThan(150);
  });

  it("holds over all workers, by the database's clock", async () => {
    const limit = 5;
    const types = { shared: bizType(any, { concurrency: 3, rate: { limit, per: '1h', scope: 'all' } }) };
    const claimedAt: number[] = [];
    const all = [suite.create(types), suite.create(types), suite.create(types)].map((biz) => {
      biz.handle('shared', async () => void claimedAt.push(await biz.database.now()));
      return { biz, worker: biz.worker() };
    });
    await all[0]?.biz.now().submitMany('shared', many(17));
    for (const { worker } of all) await worker.start();
    for (let hours = 0; claimedAt.length < 17; hours++) {
      // All have ended, or the leases would expire when the clocks are moved.
      await until(
        async () =>
          claimedAt.length >= Math.min(17, (hours + 1) * limit) &&
          (await suite.db.knex('compensate_biz').where({ biz_type: 'shared', status: 'PROCESSING' })).length === 0,
      );
      // Half an hour makes no room, the whole one for five.
      for (const part of [0.5, 1]) {
        for (const { biz } of all) biz.database.clockOffsetMs = (hours + part) * 3_600_000 + (part === 1 ? 1_000 * (hours + 1) : 0);
        for (const { biz } of all) biz.wake();
      }
    }
    for (const { worker } of all) await worker.stop();
    expect(claimedAt).toHaveLength(17);
    expect(closest(claimedAt, limit)).toBeGreaterThan(3_590_000);
  });

  it('refuses a scope that does not exist', () => {
    expect(() => bizType(any, { rate: { limit: 1, per: '1s', scope: 'fleet' as never } })).toThrow(/rate.scope is "fleet"; give 'worker'/);
  });
});
