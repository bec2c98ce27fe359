import { execFile } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { coreSchema, every, migrate, silentLogger } from '@holdfast/core';
import { openSqlite } from '@holdfast/core/sqlite';
import { expect, it } from 'vitest';
import { bizType, compensateBizSchema, createCompensateBiz } from '../src/index.ts';
import { bizTesting } from '../src/testing/index.ts';
import { onEveryDatabase } from './suite.ts';
import { any } from './suite-schema.ts';

onEveryDatabase('the helpers for tests', (suite) => {
  const empty = () => suite.db.knex('compensate_biz').delete();

  it('run what is due and what that submits, until nothing is, and say how each ended', async () => {
    await empty();
    const biz = suite.create({ first: bizType(any), second: bizType(any), later: bizType(any), bad: bizType(any), slow: bizType(any) });
    biz.handle('first', (context, run) => {
      run.submit('second', { of: run.id }, { bizId: 'follow-up' });
      return { greeted: context.name };
    });
    biz.handle('second', (_, run) => run.commit(() => undefined, { result: 2 }));
    biz.handle('later', (_, run) => run.snooze('5m'));
    biz.handle('bad', (_, run) => run.reject('never'));
    biz.handle('slow', () => undefined);
    const testing = bizTesting(biz);
    const succeeded: string[] = [];
    biz.events.on('task:succeeded', ({ type }) => void succeeded.push(type));
    const first = await biz.now().submit('first', { name: 'Ada' }, { bizId: 'ada' });
    const bad = await biz.now().submit('bad', {});
    const later = await biz.now().submit('later', {});
    await biz.now().submit('slow', {}, { delay: '1h' });
    const runs = await testing.runDue();
    const of = (type: string) => runs.filter((run) => run.type === type);
    expect(runs).toHaveLength(4);
    expect(succeeded).toEqual(['first', 'second']);
    expect(of('first')).toEqual([
      {
        id: first.id,
        type: 'first',
        bizId: 'ada',
        attempt: 1,
        outcome: 'succeeded',
        result: { greeted: 'Ada' },
        error: undefined,
        afterMs: undefined,
      },
    ]);
    expect(of('second')).toMatchObject([{ bizId: 'follow-up', outcome: 'succeeded', result: 2 }]);
    expect(of('bad')).toMatchObject([{ id: bad.id, outcome: 'failed', error: { code: 'rejected', message: 'never' } }]);
    expect(of('later')).toMatchObject([{ id: later.id, outcome: 'snoozed', afterMs: 300_000 }]);
    expect(await testing.runDue()).toEqual([]);
    testing.advance('59m');
    expect((await testing.runDue()).map(({ type }) => type)).toEqual(['later']);
    testing.advance('2m');
    expect((await testing.runDue({ types: ['slow'] })).map(({ type }) => type)).toEqual(['slow']);
    expect(await testing.find({ status: 'SUCCESS' })).toHaveLength(3);
  });

  it('run retries and delays at once, in the order of their times', async () => {
    await empty();
    const biz = suite.create({
      flaky: bizType(any, { retry: every('10m').upTo(3) }),
      batch: bizType(any),
      serial: bizType(any, { serial: true }),
    });
    biz.handle('flaky', (context, run) => {
      if (run.attempt <= Number(context.fails)) throw new Error(`attempt ${run.attempt}`);
    });
    const batches: number[] = [];
    biz.handleBatch('batch', { size: 10 }, (items) => void batches.push(items.length));
    biz.handle('serial', () => undefined);
    const testing = bizTesting(biz);
    await biz.now().submit('flaky', { fails: 2 });
    await biz.now().submit('flaky', { fails: 9 }, { delay: '1d' });
    await biz.now().submitMany(
      'batch',
      Array.from({ length: 25 }, (_, i) => ({ i })),
    );
    for (let i = 0; i < 3; i++) await biz.now().submit('serial', { i }, { bizId: 'one' });
    await biz
      .now()
      .fanOut('batch', [{ i: 1 }, { i: 2 }], { key: `all-${suite.db.name}`, onComplete: { type: 'flaky', context: { fails: 0 } } });
    const runs = await testing.runAll();
    expect(runs.filter(({ type }) => type === 'flaky').map(({ attempt, outcome }) => `${attempt} ${outcome}`)).toEqual([
      '1 retried',
      '1 succeeded',
      '2 retried',
      '3 succeeded',
      '1 retried',
      '2 retried',
      '3 failed',
    ]);
    expect(batches.reduce((a, b) => a + b)).toBe(27);
    expect(runs.filter(({ type }) => type === 'serial')).toHaveLength(3);
    expect((await testing.find({ status: 'FAILED' })).map(({ error }) => error?.message)).toEqual(['attempt 3']);
  });

  it('run no child of a fan-out that was cancelled, nor of one that belongs to it', async () => {
    await empty();
    const biz = suite.create({ outer: bizType(any), leaf: bizType(any) });
    biz.handle('outer', async (_context, run) => {
      await biz.fanOut('leaf', [{ i: 1 }, { i: 2 }], { key: `leaf-${run.id}`, partOf: run.parentId });
    });
    biz.handle('leaf', () => undefined);
    const testing = bizTesting(biz);
    const { parentId } = await biz.fanOut('outer', [{ i: 1 }, { i: 2 }, { i: 3 }], { key: `outer-${suite.db.name}` });
    const [first] = await suite.db.knex('compensate_biz').where({ parent_id: parentId }).orderBy('id');
    const others = suite.db.knex('compensate_biz').where({ biz_type: 'outer' }).whereNot({ id: first.id });
    await others.update({ status: 'SCHEDULED', run_at: 9_000_000_000_000 });
    expect(await testing.runDue({ types: ['outer'] })).toMatchObject([{ id: String(first.id), outcome: 'succeeded' }]);
    await suite.db.knex.transaction((trx) => biz.in(trx).cancel({ id: parentId }));
    expect(await testing.runAll()).toEqual([]);
    expect(await testing.find({ type: 'leaf', status: 'CANCELLED' })).toHaveLength(2);
  });

  it('run inside a transaction of the test, of which nothing is left', async () => {
    await empty();
    const { knex } = suite.db;
    if (!(await knex.schema.hasTable('grants'))) await knex.schema.createTable('grants', (t) => void t.string('member').primary());
    const biz = suite.create({ grant: bizType(any, { retry: every('10m').upTo(2) }), tell: bizType(any) });
    biz.handle('grant', (context, run) => {
      if (context.fail) throw new Error('no such member');
      run.submit('tell', {}, { subject: 'told' });
      return run.commit(async (trx) => {
        await trx('grants').insert({ member: context.member });
        if (context.twice) await trx('grants').insert({ member: context.member });
      });
    });
    biz.handle('tell', () => 'told');
    const testing = bizTesting(biz);
    const rolledBack = new Error('the end of the test');
    await knex
      .transaction(async (trx) => {
        await biz.in(trx).submit('grant', { member: 'm-1' }, { bizId: 'm-1', once: 'm-1' });
        await biz.in(trx).submit('grant', { fail: true });
        await biz.in(trx).submit('grant', { member: 'm-2', twice: true });
        const inside = testing.in(trx);
        const runs = await inside.runAll();
        const of = (type: string) => runs.filter((run) => run.type === type).map(({ outcome }) => outcome);
        expect(of('grant').toSorted()).toEqual(['failed', 'failed', 'retried', 'retried', 'succeeded']);
        expect(of('tell')).toEqual(['succeeded']);
        // The effects of the run that failed are undone, those of the other are there.
        expect(await trx('grants').select('member')).toEqual([{ member: 'm-1' }]);
        const [told] = await inside.find({ subject: 'told' });
        expect(told).toMatchObject({ type: 'tell', status: 'SUCCESS', result: 'told' });
        expect(await inside.get(told?.id ?? '')).toMatchObject({ context: {} });
        throw rolledBack;
      })
      .catch((error: unknown) => {
        if (error !== rolledBack) throw error;
      });
    expect(await testing.find()).toEqual([]);
    expect(await knex('grants')).toEqual([]);
    // The key of the rolled-back submit is free.
    expect(await biz.now().submit('grant', { member: 'm-3' }, { once: 'm-1' })).toMatchObject({ duplicate: false });
    expect((await testing.runDue()).map(({ outcome }) => outcome)).toEqual(['succeeded', 'succeeded']);
    expect(await knex('grants').select('member')).toEqual([{ member: 'm-3' }]);
    await knex('grants').delete();
  });

  it('wait for a row that a worker runs, by its id or its key', async () => {
    await empty();
    const biz = suite.create({ step: bizType(any) });
    biz.handle('step', () => 'ran');
    const testing = bizTesting(biz);
    await using worker = biz.worker();
    await worker.start();
    const { id } = await biz.now().submit('step', {}, { once: 'the-step' });
    expect(await testing.waitFor(id)).toMatchObject({ status: 'SUCCESS', result: 'ran' });
    expect(await testing.waitFor({ type: 'step', once: 'the-step' })).toMatchObject({ id, status: 'SUCCESS' });
  });

  it('leave a paused type alone, end what runs for ever, and refuse a closed transaction', async () => {
    await empty();
    const biz = suite.create({ endless: bizType(any), quiet: bizType(any) });
    biz.handle('endless', (_, run) => run.submit('endless', {}));
    biz.handle('quiet', () => undefined);
    const testing = bizTesting(biz);
    const by = { actor: 'ann', reason: 'a test' };
    await biz.now().submit('quiet', {});
    await biz.inspect().actions.pause('quiet', by);
    expect(await testing.runDue()).toEqual([]);
    await biz.inspect().actions.resume('quiet', by);
    expect(await testing.runDue()).toHaveLength(1);
    await biz.now().submit('endless', {});
    await expect(testing.runDue({ maxRuns: 5 })).rejects.toMatchObject({
      code: 'test-run-limit',
      message: expect.stringMatching(/^More than 5 rows ran, and a row of endless is next/),
    });
    expect(await testing.find({ type: 'endless', status: 'SUCCESS' })).toHaveLength(5);
    const closed = await suite.db.knex.transaction(async (trx) => trx);
    expect(() => testing.in(closed)).toThrow(/after its transaction had ended/);
    expect(() => testing.advance('soon' as never)).toThrow(/by/);
  });

  it('names the runs that runAll was given, also if some of them were made before the clock moved', async () => {
    const biz = suite.create({ again: bizType(any, { retry: every('1s').upTo(100) }) });
    biz.handle('again', () => {
      throw new Error('again');
    });
    await biz.now().submit('again', {});
    const testing = bizTesting(biz);
    await expect(testing.runAll({ maxRuns: 3 })).rejects.toThrow(/^More than 3 rows ran, and a row of again is next/);
    await expect(testing.runAll({ maxRuns: Number.NaN })).rejects.toThrow(/^maxRuns is NaN/);
    await suite.db.knex('compensate_biz').where({ biz_type: 'again' }).delete();
  });
});

it('the example of the page about tests runs as it is printed', async () => {
  const page = readFileSync(new URL('../../../docs/testing.md', import.meta.url), 'utf8');
  const code = /```ts\n(import assert[\s\S]*?)```/.exec(page)?.[1] ?? '';
  expect(code).toContain('testing.runDue()');
  // In the package, so that its imports resolve as a user's do.
  const file = join(import.meta.dirname, '.docs-example.ts');
  writeFileSync(file, code);
  try {
    const args = ['--conditions=@holdfast/source', '--disable-warning=ExperimentalWarning', file];
    const { stderr } = await promisify(execFile)(process.execPath, args);
    expect(stderr).toMatch(/^$|retr/);
  } finally {
    rmSync(file);
  }
});

it('the helpers for tests work on a database in memory', async () => {
  const knex = openSqlite(':memory:');
  await migrate(knex, [coreSchema, compensateBizSchema]);
  await using biz = createCompensateBiz({ knex, logger: silentLogger, types: { step: bizType(any) } });
  biz.handle('step', () => 1);
  const { id } = await biz.now().submit('step', {}, { delay: '1d' });
  expect(await bizTesting(biz).runAll()).toMatchObject([{ id, outcome: 'succeeded', result: 1 }]);
  await knex.destroy();
});
