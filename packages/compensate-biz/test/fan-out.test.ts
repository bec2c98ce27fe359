import { every } from '@holdfast/core';
import { until } from '@holdfast/core/testing';
import { expect, it } from 'vitest';
import { bizType } from '../src/index.ts';
import { onEveryDatabase } from './suite.ts';
import { any } from './suite-schema.ts';

onEveryDatabase('a fan-out with keys of its own', (suite) => {
  const t = () => suite.db.knex('compensate_biz');
  const items = (keys: readonly (string | number)[]) => keys.map((k) => ({ k: String(k) }));
  const numbers = (n: number) => Array.from({ length: n }, (_, i) => i);
  const childKey = ({ k }: { k: string }) => k;
  const ended = (id: string) => async () => (await t().where({ id, status: 'SUCCESS' }))[0];
  async function* dying(list: readonly { k: string }[], after: number) {
    yield* list.slice(0, after);
    throw new Error('the process dies');
  }

  it('has as many children as were written, though they end while others are written', async () => {
    const biz = suite.create({ busy: bizType(any, { keep: 'none', concurrency: 20 }), busyEnd: bizType(any) });
    const runs = new Map<string, number>();
    biz.handleBatch('busy', { size: 50 }, (batch) => {
      for (const { context } of batch) runs.set(String(context.k), (runs.get(String(context.k)) ?? 0) + 1);
    });
    let after = 0;
    biz.handle('busyEnd', () => void (after += 1));
    await using worker = biz.worker();
    await worker.start();
    // Each key comes twice, the second time perhaps when its row has ended.
    const source = [...items(numbers(1500)), ...items(numbers(1500))];
    const options = { key: 'busy', chunk: 100, childKey, onComplete: { type: 'busyEnd' as const, context: {} } };
    const { parentId, total } = await biz.fanOut('busy', source as never, options);
    expect(total).toBe(1500);
    const parent = await until(ended(parentId));
    expect(JSON.parse(parent.context)).toEqual({ total: 1500, done: 1500, failed: 0, cancelled: 0 });
    await until(() => after === 1);
    expect([...runs.values()].every((n) => n === 1)).toBe(true);
    await biz.sweep();
    expect(await t().where({ parent_id: parentId })).toEqual([]);
  });

  it('makes each child once when it is resumed with the items in another order', async () => {
    const biz = suite.create({ turned: bizType(any, { keep: 'none' }) });
    const ran: string[] = [];
    biz.handle('turned', ({ k }) => void ran.push(String(k)));
    await using worker = biz.worker();
    await worker.start();
    const all = items(['#1', '#2', '#3', '=#1', 'a', 'A', 'b', 'é', 'e', "o'k?"]);
    const options = { key: 'turned', chunk: 2, childKey };
    await expect(biz.fanOut('turned', dying(all, 5) as never, options)).rejects.toThrow('the process dies');
    await until(() => ran.length === 4);
    await biz.sweep();
    const { parentId, total } = await biz.fanOut('turned', [...all].reverse() as never, options);
    expect(total).toBe(10);
    await until(ended(parentId));
    expect([...ran].sort()).toEqual(all.map(({ k }) => k).sort());
    expect(await biz.fanOut('turned', all as never, options)).toEqual({ parentId, total: 10 });
  });

  it('counts its rows when it is resumed, where an earlier release counted its items', async () => {
    const biz = suite.create({ counted: bizType(any, { retry: every(1).upTo(1) }) });
    biz.handle('counted', ({ k }) => {
      if (k === 'b') throw new Error('no');
    });
    await using worker = biz.worker();
    await worker.start();
    const options = { key: 'counted', chunk: 2, childKey };
    await expect(biz.fanOut('counted', dying(items(['a', 'a', 'b', 'b', 'c']), 4) as never, options)).rejects.toThrow('dies');
    await suite.db.knex('compensate_biz_fan_out').where({ biz_type: 'counted' }).update({ produced: 4 });
    await until(async () => (await t().where({ biz_type: 'counted' }).whereIn('status', ['SUCCESS', 'FAILED'])).length === 2);
    const { parentId, total } = await biz.fanOut('counted', items(['a', 'a', 'b', 'b', 'c']) as never, options);
    expect(total).toBe(3);
    expect(JSON.parse((await until(ended(parentId))).context)).toEqual({ total: 3, done: 2, failed: 1, cancelled: 0 });
  });

  it('keeps the rows of the keys that it wrote until all are written, beyond the age that its type keeps', async () => {
    const biz = suite.create({ aged: bizType(any, { keep: 1 }) });
    const ran: string[] = [];
    biz.handle('aged', ({ k }) => void ran.push(String(k)));
    await using worker = biz.worker();
    await worker.start();
    const options = { key: 'aged', chunk: 1, childKey };
    await expect(biz.fanOut('aged', dying(items(['a', 'b']), 1) as never, options)).rejects.toThrow('dies');
    await until(async () => (await t().where({ biz_type: 'aged', status: 'SUCCESS' })).length === 1);
    await until(async () => (await biz.sweep()).purged === 0);
    const { parentId, total } = await biz.fanOut('aged', items(['b', 'a']) as never, options);
    expect(total).toBe(2);
    await until(ended(parentId));
    expect(ran).toEqual(['a', 'b']);
    await until(async () => (await biz.sweep()) && (await t().where({ parent_id: parentId })).length === 0);
  });

  it('neither counts nor deletes the fan-outs that belong to it, and does not wait for them', async () => {
    const biz = suite.create({ whole: bizType(any, { keep: 'none' }), part: bizType(any) });
    const parts: string[] = [];
    biz.handle('whole', async (_context, run) => {
      parts.push((await biz.fanOut('part', [{}], { key: `part ${run.id}`, partOf: run.parentId })).parentId);
    });
    await using worker = biz.worker();
    await worker.start();
    const options = { key: 'whole', chunk: 1, childKey };
    await expect(biz.fanOut('whole', dying(items(['a', 'b']), 2) as never, options)).rejects.toThrow('dies');
    await until(async () => (await t().where({ biz_type: 'whole', status: 'SUCCESS' })).length === 2);
    const { parentId, total } = await biz.fanOut('whole', items(['a', 'b', 'c']) as never, options);
    expect(total).toBe(3);
    expect(JSON.parse((await until(ended(parentId))).context)).toEqual({ total: 3, done: 3, failed: 0, cancelled: 0 });
    await t().where({ biz_type: 'fan-out' }).whereIn('id', parts).update({ status: 'SUCCESS' });
    await until(async () => (await biz.sweep()) && (await t().where({ biz_type: 'whole' })).length === 0);
    expect(await t().whereIn('id', parts)).toHaveLength(3);
  });

  it('lets one caller write at a time, also where no item is new', async () => {
    const biz = suite.create({ rival: bizType(any) });
    const options = { key: 'rival', chunk: 1, childKey };
    async function* overtaken() {
      yield { k: 'a' };
      await biz.fanOut('rival', items(['x']) as never, options);
      yield { k: 'a' };
    }
    await expect(biz.fanOut('rival', overtaken() as never, options)).rejects.toThrow('by another caller');
    expect((await t().where({ biz_type: 'rival' })).length).toBe(2);
  });
});

onEveryDatabase(
  'a fan-out whose counts take long to commit',
  (suite) => {
    it('completes when its last child has ended, and waits for no sweep', async () => {
      const biz = suite.create({ slow: bizType(any) });
      biz.handle('slow', () => undefined);
      await suite.db.knex.raw(
        'CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.2); RETURN NULL; END $$',
      );
      await suite.db.knex.raw(
        'CREATE CONSTRAINT TRIGGER slow_commit AFTER INSERT OR UPDATE ON compensate_biz_fan_out_count DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slowly()',
      );
      await using worker = biz.worker();
      await worker.start();
      const { parentId } = await biz.fanOut('slow', [{}], { key: 'slow' });
      await until(async () => (await suite.db.knex('compensate_biz').where({ id: parentId, status: 'SUCCESS' })).length === 1);
    });
  },
  ['postgres'],
);
