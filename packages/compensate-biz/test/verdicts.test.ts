import { every, silentLogger } from '@holdfast/core';
import { until } from '@holdfast/core/testing';
import { beforeAll, expect, it } from 'vitest';
import { type Batch, bizType, type Run } from '../src/index.ts';
import { onEveryDatabase } from './suite.ts';
import { any } from './suite-schema.ts';

onEveryDatabase('what a run remembers', (suite) => {
  const t = () => suite.db.knex('compensate_biz');
  const ended = (id: string) => async () => (await t().where({ id }).whereIn('status', ['SUCCESS', 'FAILED', 'CANCELLED']))[0];
  const errors: string[] = [];
  const logger = { ...silentLogger, error: (_fields: object, message: string) => void errors.push(message) };
  const noted = async (of: string) => (await suite.db.knex('noted').where({ of })).length;
  const note = (of: string) => (trx: typeof suite.db.knex) => trx('noted').insert({ of });
  beforeAll(async () => {
    await suite.db.knex.schema.createTable('noted', (table) => {
      table.increments();
      table.string('of');
    });
  });
  const failing = () => Promise.reject(new Error('no such card'));
  const failOddly = () => {
    throw Object.assign(new Error(), { message: { fault: 'no such card' }, name: 7 });
  };

  it.each<
    [
      name: string,
      handler: (run: Run, name: string) => unknown,
      status: string,
      effects: number,
      error?: RegExp | undefined,
      logged?: RegExp,
    ]
  >([
    ['commit not awaited', (run, n) => void run.commit(note(n) as never), 'SUCCESS', 1],
    ['commit begun in a wait', async (run, n) => void run.commit(note(n) as never), 'SUCCESS', 1],
    ['commit not awaited that fails', (run) => void run.commit(failing), 'FAILED', 0, /no such card/],
    ['commit not awaited that fails, in a wait', async (run) => void run.commit(failing), 'FAILED', 0, /no such card/],
    [
      'commit that fails and is swallowed',
      async (run) => {
        await run.commit(failing).catch(() => undefined);
      },
      'FAILED',
      0,
      /no such card/,
    ],
    [
      'commit that fails, then another',
      async (run, n) => {
        await run.commit(failing).catch(() => undefined);
        await run.commit(note(n) as never);
      },
      'SUCCESS',
      1,
    ],
    ['commit that fails, then a verdict', (run) => run.commit(failing).catch(() => run.reject('closed')), 'FAILED', 0, /closed/],
    ['reject not returned', (run) => void run.reject('closed'), 'FAILED', 0, /closed/],
    ['reject not returned, in a wait', async (run) => void run.reject('closed'), 'FAILED', 0, /closed/],
    ['retry not returned', (run) => void run.retry({ reason: 'later' }), 'FAILED', 0, /later/],
    ['two verdicts', (run) => void [run.reject('first'), run.reject('second')], 'FAILED', 0, /second/],
    ['throw of an error whose message is no text', () => failOddly(), 'FAILED', 0, /no such card/],
    ['throw of an error whose message is no text, in a wait', async () => failOddly(), 'FAILED', 0, /no such card/],
    [
      'retry for a long reason',
      (run) => run.retry({ reason: `closed ${'x'.repeat(200_000)}` }),
      'FAILED',
      0,
      /^.{0,80}closed x{1000,2100}…/,
    ],
    [
      'throw after reject',
      (run) => {
        run.reject('closed');
        throw new Error('and more');
      },
      'FAILED',
      0,
      /closed/,
      /threw after it had given the verdict dead/,
    ],
    [
      'throw after commit',
      async (run, n) => {
        await run.commit(note(n) as never);
        throw new Error('too late');
      },
      'SUCCESS',
      1,
      undefined,
      /threw after its run had committed/,
    ],
    [
      'throw beside a commit not awaited',
      (run, n) => {
        void run.commit(note(n) as never);
        throw new Error('at once');
      },
      'SUCCESS',
      1,
      undefined,
      /threw after its run had committed/,
    ],
    [
      'verdict after commit',
      async (run, n) => {
        await run.commit(note(n) as never);
        return run.reject('too late');
      },
      'SUCCESS',
      1,
      undefined,
      /run.reject came too late/,
    ],
    [
      'follow-up after commit',
      async (run, n) => {
        await run.commit(note(n) as never);
        run.submit('remembered' as never, {});
      },
      'SUCCESS',
      1,
      undefined,
      /run.submit came too late/,
    ],
    [
      'commit after reject',
      async (run, n) => {
        run.reject('closed');
        await run.commit(note(n) as never);
      },
      'FAILED',
      0,
      /closed/,
      /run.commit came too late/,
    ],
    [
      'two commits at once',
      (run, n) => Promise.all([run.commit(note(n) as never), run.commit(note(n) as never)]),
      'SUCCESS',
      1,
      undefined,
      /run.commit came too late/,
    ],
  ])('a single run: %s', async (name, handler, status, effects, error, logged) => {
    const biz = suite.create({ remembered: bizType(any, { retry: every(1).upTo(1) }) }, { logger });
    biz.handle('remembered', (_context, run) => handler(run as never, name));
    await using worker = biz.worker();
    await worker.start();
    errors.length = 0;
    const { id } = await biz.now().submit('remembered', {});
    const row = await until(ended(id));
    expect(row.status).toBe(status);
    expect(await noted(name)).toBe(effects);
    if (error) expect(row.last_failed_reason).toMatch(error);
    await worker.stop();
    if (logged) expect(errors.join()).toMatch(logged);
    else expect(errors).toEqual([]);
  });

  it.each<
    [
      name: string,
      handler: (batch: Batch<unknown>, name: string, first: never) => unknown,
      statuses: string,
      effects: number,
      logged?: RegExp,
    ]
  >([
    ['commit not awaited', (batch, n) => void batch.commit(note(n) as never), 'SUCCESS,SUCCESS', 1],
    ['commit not awaited that fails', async (batch) => void batch.commit(failing), 'FAILED,FAILED', 0],
    ['throw of an error whose message is no text', () => failOddly(), 'FAILED,FAILED', 0],
    [
      'commit that fails and is swallowed',
      async (batch) => {
        await batch.commit(failing).catch(() => undefined);
      },
      'FAILED,FAILED',
      0,
    ],
    [
      'throw after commit',
      async (batch, n) => {
        await batch.commit(note(n) as never);
        throw new Error('too late');
      },
      'SUCCESS,SUCCESS',
      1,
      /threw after each of its rows had a verdict/,
    ],
    [
      'verdict after commit',
      async (batch, n, first) => {
        await batch.commit(note(n) as never);
        batch.reject(first, 'too late');
      },
      'SUCCESS,SUCCESS',
      1,
      /batch.reject came too late/,
    ],
    [
      'throw after a verdict on one',
      (batch, _n, first) => {
        batch.reject(first, 'closed');
        throw new Error('and more');
      },
      'FAILED,FAILED',
      0,
      /threw after each/,
    ],
  ])('a batch: %s', async (name, handler, statuses, effects, logged) => {
    const biz = suite.create({ rememberedMany: bizType(any, { retry: every(1).upTo(1) }) }, { logger });
    biz.handleBatch('rememberedMany', { size: 10 }, (items, batch) => handler(batch as never, `many: ${name}`, items[0] as never));
    errors.length = 0;
    const ids = await biz.now().submitMany('rememberedMany', [{}, {}]);
    await using worker = biz.worker();
    await worker.start();
    const rows = await Promise.all(ids.map((id) => until(ended(id))));
    expect(rows.map((row) => row.status).join()).toBe(statuses);
    expect(await noted(`many: ${name}`)).toBe(effects);
    await worker.stop();
    if (logged) expect(errors.join()).toMatch(logged);
    else expect(errors).toEqual([]);
  });

  it('refuses and reports what a handler does on its run after it has returned', async () => {
    const biz = suite.create({ late: bizType(any), lateMany: bizType(any) }, { logger });
    const runs: Run[] = [];
    const batches: Batch<unknown>[] = [];
    biz.handle('late', (_context, run) => void runs.push(run as never));
    biz.handleBatch('lateMany', { size: 2 }, (_items, batch) => void batches.push(batch as never));
    await using worker = biz.worker();
    await worker.start();
    const { id } = await biz.now().submit('late', {});
    const { id: other } = await biz.now().submit('lateMany', {});
    await until(ended(id));
    await until(ended(other));
    errors.length = 0;
    await expect(runs[0]?.commit(note('late') as never)).rejects.toThrow('the handler had returned');
    await expect(batches[0]?.commit(note('late') as never)).rejects.toThrow('the handler had returned');
    expect(() => runs[0]?.reject('no')).toThrow('the handler had returned');
    expect(() => runs[0]?.submit('late', {})).toThrow('the handler had returned');
    expect(errors).toHaveLength(4);
    expect(await noted('late')).toBe(0);
  });

  it('fails by themselves those rows of a batch for which its handler throws', async () => {
    const biz = suite.create({ poisoned: bizType(any, { retry: every(1).upTo(2), concurrency: 1 }) });
    const calls: number[][] = [];
    biz.handleBatch('poisoned', { size: 10 }, async (items, batch) => {
      calls.push(items.map(({ context }) => Number(context.n)));
      const bad = items.find(({ context }) => [0, 3, 4, 9].includes(Number(context.n)));
      if (bad?.context.n === 9) throw Object.assign(new Error('bad card'), { retryable: false });
      if (bad) throw new Error(`no ${bad.context.n}`);
      await batch.commit(() => undefined);
    });
    const ids = await biz.now().submitMany(
      'poisoned',
      Array.from({ length: 10 }, (_, n) => ({ n })),
    );
    await using worker = biz.worker();
    await worker.start();
    const rows = await Promise.all(ids.map((id) => until(ended(id))));
    expect(rows.map((row) => row.status[0]).join('')).toBe('FSSFFSSSSF');
    expect(rows.map((row) => row.cnt)).toEqual([2, 0, 0, 2, 2, 0, 0, 0, 0, 1]);
    expect(JSON.parse(rows[3].last_failed_reason).message).toBe('no 3');
    expect(rows[9].dead_reason).toBe('rejected');
    for (const row of [1, 2, 5, 6, 7, 8]) expect(calls.filter((call) => call.includes(row)).length).toBeLessThanOrEqual(6);
  });

  it('aborts every row of a batch at its timeout, and finds the one that hangs', async () => {
    const biz = suite.create({ hanging: bizType(any, { timeout: 100, retry: every(1).upTo(1), concurrency: 1 }) });
    const aborted: boolean[][] = [];
    biz.handleBatch('hanging', { size: 4 }, async (items) => {
      if (!items.some(({ context }) => context.n === 2)) return;
      const signals = items.map((item) => item.signal);
      await new Promise<void>((resolve) => signals.at(-1)?.addEventListener('abort', () => resolve()));
      aborted.push(signals.map((signal) => signal.aborted && (signal.reason as { code?: string }).code === 'handler-timeout'));
    });
    const ids = await biz.now().submitMany('hanging', [{ n: 0 }, { n: 1 }, { n: 2 }, { n: 3 }]);
    await using worker = biz.worker();
    await worker.start();
    const rows = await Promise.all(ids.map((id) => until(ended(id))));
    expect(rows.map((row) => row.status)).toEqual(['SUCCESS', 'SUCCESS', 'FAILED', 'SUCCESS']);
    expect(aborted[0]).toEqual([true, true, true, true]);
    expect(JSON.parse(rows[2].last_failed_reason)).toMatchObject({ code: 'handler-timeout' });
  });
});
