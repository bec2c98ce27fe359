import { type TestDatabase, until } from '@holdfast/core/testing';
import { expect, it } from 'vitest';
import { bizType } from '../src/index.ts';
import { planOf } from './plan-of.ts';
import { onEveryDatabase } from './suite.ts';
import { any } from './suite-schema.ts';

const count = 100_000;
const by = { actor: 'ann', reason: 'the cause is mended' };

/** Writes fan-outs that have completed, each with its row, as earlier releases leave them. */
async function seedFanOuts(db: TestDatabase): Promise<void> {
  const numbers = {
    postgres: `SELECT i FROM generate_series(1, ${count}) i`,
    sqlite: `WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < ${count}) SELECT i FROM s`,
    mysql: `WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < ${count}) SELECT /*+ SET_VAR(cte_max_recursion_depth = ${count}) */ i FROM s`,
    mariadb: `SELECT seq AS i FROM seq_1_to_${count}`,
  }[db.name];
  // One in two was cancelled, and all its children were.
  await db.knex.raw(
    `INSERT INTO compensate_biz (id, biz_type, context, status) SELECT 1000000 + n.i, 'fan-out', '{}', CASE WHEN n.i % 2 = 0 THEN 'CANCELLED' ELSE 'SUCCESS' END FROM (${numbers}) n`,
  );
  await db.knex.raw(
    `INSERT INTO compensate_biz_fan_out (parent_id, biz_type, produced, total, cancelled) SELECT 1000000 + n.i, 'part', 0, 0, 1 - n.i % 2 FROM (${numbers}) n`,
  );
  const analyze = db.name === 'mysql' || db.name === 'mariadb' ? 'ANALYZE TABLE' : 'ANALYZE';
  for (const table of ['compensate_biz', 'compensate_biz_fan_out']) await db.knex.raw(`${analyze} ${table}`);
}

onEveryDatabase('finished fan-outs', (suite) => {
  const unfinished = () => suite.db.knex('compensate_biz_fan_out').where({ unfinished: 1 });

  it('are read by no sweep after the first, however many there are', async () => {
    await seedFanOuts(suite.db);
    const biz = suite.create({ part: bizType(any, { keep: 'none' }) });
    await biz.fanOut('part', [{ i: 1 }], { key: 'open' });
    await biz.sweep();
    expect(await unfinished()).toMatchObject([{ biz_type: 'part', total: expect.anything() }]);
    // As the server does by itself.
    if (suite.db.name === 'postgres') await suite.db.knex.raw('VACUUM ANALYZE compensate_biz_fan_out');
    // Each statement reads the fan-outs by the index of the unfinished ones, and the rows of those by their ids.
    for (const part of ['f.total <= (SELECT', 'cancelled = 0 AND (SELECT t.status', 'AS redriven']) {
      const plan = await planOf(suite.db, part, () => biz.sweep());
      expect(plan).toContain('compensate_biz_fan_out_unfinished');
      expect(plan).not.toMatch(/Seq Scan|SCAN (?!f USING INDEX compensate_biz_fan_out_unfinished)|null/);
    }
  }, 120_000);

  it('are looked at again when a child is redriven, whose row is then deleted as those of its type are', async () => {
    const biz = suite.create({ part: bizType(any, { keep: 'none' }) });
    await suite.db.knex('compensate_biz').delete();
    await suite.db.knex('compensate_biz_fan_out').delete();
    let [broken, held] = [true, true];
    biz.handle('part', async ({ i }, run) => {
      if (i === 2 && broken) return run.reject('broken');
      if (i === 2) await until(() => !held);
    });
    const { parentId } = await biz.fanOut('part', [{ i: 1 }, { i: 2 }], {
      key: 'redriven',
      childKey: ({ i }: { i: number }) => `k${i}`,
    } as never);
    await using worker = biz.worker();
    await worker.start();
    const children = () => suite.db.knex('compensate_biz').where({ parent_id: parentId });
    await until(async () => (await children()).every(({ status }) => /SUCCESS|FAILED/.test(status)));
    await until(async () => (await suite.db.knex('compensate_biz').where({ id: parentId, status: 'SUCCESS' })).length === 1);
    await biz.sweep();
    expect([await unfinished(), (await children()).map(({ status }) => status)]).toEqual([[], ['FAILED']]);
    broken = false;
    const [failed] = await children();
    expect(await biz.inspect().actions.redrive(String(failed.id), by)).toBe(1);
    await until(async () => (await children().where({ status: 'PROCESSING' })).length === 1);
    // It runs: not finished yet.
    await biz.sweep();
    expect(await unfinished()).toHaveLength(1);
    held = false;
    await until(async () => (await children().where({ status: 'SUCCESS' })).length === 1);
    await biz.sweep();
    expect([await unfinished(), await children()]).toEqual([[], []]);
  });

  it('of types that no process knows any more are finished once their rows have been deleted', async () => {
    const biz = suite.create({ other: bizType(any) });
    await suite.db.knex('compensate_biz').delete();
    await suite.db.knex('compensate_biz_fan_out').delete();
    await suite.db.knex('compensate_biz').insert({ id: 5, biz_type: 'fan-out', context: '{}', status: 'SUCCESS' });
    await suite.db.knex('compensate_biz_fan_out').insert([5, 6].map((id) => ({ parent_id: id, biz_type: 'retired', total: 0 })));
    await biz.sweep();
    expect((await unfinished()).map(({ parent_id }) => Number(parent_id))).toEqual([5]);
  });
});
