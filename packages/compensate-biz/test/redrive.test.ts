import { steps } from '@holdfast/core';
import { until } from '@holdfast/core/testing';
import { expect, it } from 'vitest';
import { bizType, type RedriveFilter } from '../src/index.ts';
import { planOf } from './plan-of.ts';
import { seedRows } from './seed.ts';
import { onEveryDatabase } from './suite.ts';
import { any } from './suite-schema.ts';

const by = { actor: 'ann', reason: 'their schema is fixed' };
const failed = { context: "'{}'", status: "'FAILED'", cnt: '8', lost: '0', dead_reason: "'exhausted'" };

onEveryDatabase('a redrive of all rows that match', (suite) => {
  const count = async (where: object) => Number((await suite.db.knex('compensate_biz').where(where).count({ n: '*' }))[0]?.n);
  const audits = () => suite.db.knex('holdfast_audit').where({ action: 'compensate-biz:redrive' });
  const empty = async () => {
    await suite.db.knex('compensate_biz').delete();
    await suite.db.knex('holdfast_audit').delete();
  };

  it('counts them first, changes each once and nothing else, page by page, and is on record', async () => {
    await empty();
    const biz = suite.create({ grant: bizType(any), push: bizType(any) });
    await seedRows(suite.db, 1_203, { ...failed, biz_type: "'grant'", tenant: "'acme'" });
    await seedRows(suite.db, 40, { ...failed, biz_type: "'grant'", tenant: "'beta'" });
    await seedRows(suite.db, 50, { ...failed, biz_type: "'push'", tenant: "'acme'" });
    await seedRows(suite.db, 10, { ...failed, biz_type: "'grant'", tenant: "'acme'", status: "'CANCELLED'" });
    await seedRows(suite.db, 10, { ...failed, biz_type: "'grant'", tenant: "'acme'", status: "'SUCCESS'" });
    const filter = { type: 'grant', tenant: 'acme' } as const;
    expect(await biz.redrive(filter, { dryRun: true })).toEqual({ matched: 1_203, changed: 0, after: undefined });
    expect(await count({ status: 'FAILED' })).toBe(1_293);
    expect(await audits()).toHaveLength(0);
    const pages: number[] = [];
    const counts = await biz.redrive(filter, { ...by, onPage: ({ ids }) => pages.push(ids.length) });
    expect(counts).toEqual({ matched: 1_203, changed: 1_203, after: undefined });
    expect(pages).toEqual([200, 200, 200, 200, 200, 200, 3]);
    expect(await count({ status: 'WAIT_HANDLE', biz_type: 'grant', tenant: 'acme', cnt: 0, lost: 0, version: 1, dead_reason: null })).toBe(
      1_203,
    );
    expect(await count({ status: 'FAILED' })).toBe(90);
    expect(await count({ status: 'CANCELLED' })).toBe(10);
    const rows = await audits();
    expect(rows).toHaveLength(7);
    expect(rows[0]).toMatchObject({
      actor: 'ann',
      reason: 'their schema is fixed',
      subject: expect.stringMatching(/^200 tasks, the last is \d+$/),
    });
    // Of every type, and then of those that were cancelled.
    expect(await biz.redrive({}, by)).toMatchObject({ matched: 90, changed: 90 });
    expect(await biz.redrive({ status: 'CANCELLED' }, by)).toMatchObject({ matched: 10, changed: 10 });
    expect(await biz.redrive({}, by)).toMatchObject({ matched: 0, changed: 0 });
  });

  it('takes those that failed for a reason, and in a time', async () => {
    await empty();
    const biz = suite.create({ grant: bizType(any, { retry: steps(1).upTo(1) }) });
    const testing = new Date(await biz.database.now());
    biz.handle('grant', (context, run) => {
      if (context.reject) return run.reject('never');
      throw new Error('again');
    });
    await biz.now().submit('grant', { reject: true }, { bizId: 'rejected', subject: 'order-1' });
    await biz.now().submit('grant', {}, { bizId: 'exhausted' });
    const worker = biz.worker();
    await worker.start();
    await until(async () => (await count({ status: 'FAILED' })) === 2);
    await worker.stop();
    const matched = (filter: RedriveFilter<'grant'>) => biz.redrive(filter, { dryRun: true });
    expect(await matched({ reason: 'rejected' })).toMatchObject({ matched: 1 });
    expect(await matched({ reason: 'exhausted', bizId: 'exhausted' })).toMatchObject({ matched: 1 });
    expect(await matched({ reason: 'crash-loop' })).toMatchObject({ matched: 0 });
    expect(await matched({ subject: 'order-1' })).toMatchObject({ matched: 1 });
    const earlier = new Date(testing.getTime() - 60_000);
    const later = new Date(testing.getTime() + 600_000);
    expect(await matched({ failedBefore: earlier })).toMatchObject({ matched: 0 });
    expect(await matched({ failedBefore: later })).toMatchObject({ matched: 2 });
    expect(await matched({ failedAfter: earlier })).toMatchObject({ matched: 2 });
    expect(await matched({ failedAfter: later })).toMatchObject({ matched: 0 });
    expect(await matched({ failedAfter: earlier, failedBefore: new Date(8e15) })).toMatchObject({ matched: 2 });
  });

  it('stays within its rate, ends at its limit, and continues where it stopped', async () => {
    await empty();
    const biz = suite.create({ grant: bizType(any), push: bizType(any) });
    await seedRows(suite.db, 150, { ...failed, biz_type: "'grant'" });
    await seedRows(suite.db, 150, { ...failed, biz_type: "'push'" });
    const started = performance.now();
    const first = await biz.redrive({}, { ...by, rate: 100, limit: 150 });
    // Pages of 100 and 50 rows: the second comes a second after the first.
    expect(performance.now() - started).toBeGreaterThan(900);
    expect(first).toMatchObject({ matched: 150, changed: 150, after: expect.any(String) });
    const stop = new AbortController();
    let seen: string | undefined;
    const stopped = biz.redrive(
      {},
      {
        ...by,
        rate: 100,
        signal: stop.signal,
        ...(first.after === undefined ? {} : { after: first.after }),
        onPage: ({ counts }) => {
          seen = counts.after;
          stop.abort(new Error('enough'));
        },
      },
    );
    await expect(stopped).rejects.toThrow('enough');
    expect(await count({ status: 'FAILED' })).toBe(50);
    expect(await biz.redrive({}, { ...by, ...(seen === undefined ? {} : { after: seen }) })).toMatchObject({ matched: 50, changed: 50 });
    expect(await count({ status: 'WAIT_HANDLE', version: 1 })).toBe(300);
  });

  it('is shared by two people who redrive the same rows at once: each row is changed once', async () => {
    await empty();
    const biz = suite.create({ grant: bizType(any) });
    await seedRows(suite.db, 1_000, { ...failed, biz_type: "'grant'" });
    const both = await Promise.all([biz.redrive({}, by), biz.redrive({ type: 'grant' }, { ...by, actor: 'bob' })]);
    expect(both[0].changed + both[1].changed).toBe(1_000);
    expect(await count({ status: 'WAIT_HANDLE', version: 1 })).toBe(1_000);
  });

  it('meets no row twice that fails again meanwhile', async () => {
    await empty();
    const biz = suite.create({ grant: bizType(any, { retry: steps(1).upTo(1), concurrency: 50 }) });
    await seedRows(suite.db, 600, { ...failed, biz_type: "'grant'" });
    let runs = 0;
    biz.handle('grant', () => {
      runs += 1;
      throw new Error('still');
    });
    const worker = biz.worker();
    await worker.start();
    let after = 0;
    const counts = await biz.redrive({}, { ...by, rate: 400, onPage: () => void (after += 1) });
    expect(counts).toMatchObject({ matched: 600, changed: 600 });
    expect(after).toBe(3);
    await until(async () => (await count({ status: 'FAILED', version: 2 })) === 600);
    await worker.stop();
    expect(runs).toBe(600);
  });

  it('gives serial rows their turns, and parents their counts', async () => {
    await empty();
    const biz = suite.create({
      step: bizType(any, { serial: true, retry: steps(1).upTo(1) }),
      child: bizType(any, { retry: steps(1).upTo(1) }),
    });
    let broken = true;
    const order: number[] = [];
    biz.handle('step', (context) => {
      if (broken) throw new Error('broken');
      order.push(Number(context.n));
    });
    let release = (): void => undefined;
    const released = new Promise<void>((resolve) => (release = resolve));
    biz.handle('child', async ({ i }) => {
      if (i === 4) await released;
      else if (broken) throw new Error('broken');
    });
    for (let n = 0; n < 6; n++) await biz.now().submit('step', { n }, { bizId: n % 2 === 0 ? 'even' : 'odd' });
    const { parentId } = await biz.now().fanOut('child', [{ i: 1 }, { i: 2 }, { i: 3 }, { i: 4 }], { key: `of-${suite.db.name}` });
    const worker = biz.worker();
    await worker.start();
    await until(async () => (await count({ status: 'FAILED' })) === 9);
    broken = false;
    expect(await biz.redrive({}, by)).toMatchObject({ matched: 9, changed: 9 });
    await until(async () => (await count({ status: 'SUCCESS' })) === 9);
    release();
    await until(async () => (await count({ status: 'SUCCESS' })) === 11);
    await worker.stop();
    expect(order.filter((n) => n % 2 === 0)).toEqual([0, 2, 4]);
    expect(order.filter((n) => n % 2 === 1)).toEqual([1, 3, 5]);
    const parent = await suite.db.knex('compensate_biz').where({ id: parentId }).first();
    expect(JSON.parse(parent.context)).toEqual({ total: 4, done: 4, failed: 0, cancelled: 0 });
  });

  it('finds its rows by an index on their status, not in the whole table', async () => {
    await empty();
    const biz = suite.create({ grant: bizType(any) });
    await seedRows(suite.db, 30_000, { ...failed, biz_type: "'other'", status: "'SUCCESS'" });
    await seedRows(suite.db, 300, { ...failed, biz_type: "'grant'", run_at: '1' });
    const index =
      suite.db.name === 'sqlite' || suite.db.name === 'postgres' ? /compensate_biz_(failed|ended)/ : /compensate_biz_(due|ready)/;
    for (const filter of [{}, { type: 'grant' }, { tenant: '', reason: 'exhausted' }] as const)
      expect(await planOf(suite.db, "status = 'FAILED'", () => biz.redrive(filter, { dryRun: true })), JSON.stringify(filter)).toMatch(
        index,
      );
    await empty();
  });

  it.each([
    [{}, {}, /redrive needs who does it and why/],
    [{}, { actor: 'ann' }, /redrive needs who does it and why/],
    [{}, { ...by, rate: 0 }, /rate is 0; give a number of rows per second, above 0/],
    [{}, { ...by, rate: Number.NaN }, /rate is NaN/],
    [{}, { ...by, limit: 0 }, /limit is 0/],
    [{}, { ...by, after: 'nowhere' }, /after is "nowhere"/],
    [{ status: 'SUCCESS' }, by, /status is "SUCCESS"; give one of FAILED, CANCELLED/],
    [{ failedBefore: 'yesterday' }, by, /failedBefore is "yesterday"; give a valid Date/],
    [{ failedAfter: new Date(Number.NaN) }, by, /failedAfter is Invalid Date/],
    [{ type: '' }, by, /type is ""/],
    [{ tenant: 'a\0' }, by, /tenant holds a NUL/],
  ])('refuses %o with %o', async (filter, options, message) => {
    const biz = suite.create({ grant: bizType(any) });
    await expect(biz.redrive(filter as never, options as never)).rejects.toThrow(message);
  });
});
