import { every, silentLogger } from '@holdfast/core';
import { until } from '@holdfast/core/testing';
import { expect, it } from 'vitest';
import { type BizTypeOptions, bizType } from '../src/index.ts';
import { onEveryDatabase } from './suite.ts';
import { any } from './suite-schema.ts';

onEveryDatabase('late handlers', (suite) => {
  const t = () => suite.db.knex('compensate_biz');

  const kinds: readonly (readonly [string, 'handle' | 'handleBatch', BizTypeOptions])[] = [
    ['serial', 'handle', { serial: true, retry: every(1).upTo(1) }],
    ['serial, tried again', 'handle', { serial: true, retry: every(1).upTo(2) }],
    ['capped', 'handle', { globalConcurrency: 1, retry: every(1).upTo(1) }],
    ['capped, tried again', 'handle', { globalConcurrency: 1, retry: every(1).upTo(2) }],
    ['capped batches', 'handleBatch', { globalConcurrency: 1, retry: every(1).upTo(1) }],
  ];
  /** A handler that ignores its signal: it runs until `release`. */
  function stubborn() {
    const waiting: (() => void)[] = [];
    const count = { running: 0, most: 0, started: 0 };
    return {
      count,
      release: () => waiting.splice(0).forEach((resolve) => void resolve()),
      handler: async () => {
        count.started += 1;
        count.running += 1;
        count.most = Math.max(count.most, count.running);
        await new Promise<void>((resolve) => waiting.push(resolve));
        count.running -= 1;
      },
    };
  }

  it.each(kinds)('keep their place until they end, though they ignore their signal (%s)', async (type, how, options) => {
    const biz = suite.create({ [type]: bizType(any, { concurrency: 10, timeout: 20, ...options }), mark: bizType(any) });
    let marks = 0;
    biz.handle('mark', () => void (marks += 1));
    const { count, release, handler } = stubborn();
    let aborted = 0;
    if (how === 'handle')
      biz.handle(type, (_context, run) => {
        run.signal.addEventListener('abort', () => void (aborted += 1));
        return handler();
      });
    else
      biz.handleBatch(type, { size: 1 }, ([item]) => {
        item?.signal.addEventListener('abort', () => void (aborted += 1));
        return handler();
      });
    for (let i = 0; i < 4; i++) await biz.now().submit(type, {}, { bizId: 'b' });
    const tries = 4 * (type.endsWith('again') ? 2 : 1);
    await using worker = biz.worker();
    await worker.start();
    for (let n = 1; n <= tries; n++) {
      await until(() => count.started === n);
      // Each is aborted at its timeout, and the next starts only after it has ended.
      await until(() => aborted === n);
      for (let i = 0; i < 3; i++) {
        const before = marks;
        await biz.now().submit('mark', {});
        await until(() => marks > before);
      }
      expect(count).toMatchObject({ running: 1, started: n });
      release();
    }
    await until(async () => (await t().where({ biz_type: type, status: 'FAILED' })).length === 4);
    expect(count).toMatchObject({ most: 1, started: tries });
    for (const row of await t().where({ biz_type: type })) expect(JSON.parse(row.last_failed_reason).code).toBe('handler-timeout');
  });

  it('lose their place after the time of a lease, with a warning', async () => {
    const warnings: object[] = [];
    const warn = (fields: object, message: string) => {
      if (message.startsWith('a handler still runs')) warnings.push(fields);
    };
    const biz = suite.create(
      { endless: bizType(any, { serial: true, concurrency: 10, timeout: 20, retry: every(1).upTo(1) }) },
      { logger: { ...silentLogger, warn } },
    );
    const { count, release, handler } = stubborn();
    biz.handle('endless', handler);
    const { id } = await biz.now().submit('endless', {}, { bizId: 'b' });
    await biz.now().submit('endless', {}, { bizId: 'b' });
    await using worker = biz.worker({ lease: '300ms' });
    await worker.start();
    await until(() => count.started === 2);
    expect(warnings[0]).toMatchObject({ id, type: 'endless', bizId: 'b' });
    release();
  });

  it.each([
    ['serial', { serial: true }],
    ['capped', { globalConcurrency: 1 }],
  ] as const)('are not run beside when their row is cancelled and redriven meanwhile (%s)', async (name, options) => {
    const type = `redriven ${name}`;
    const biz = suite.create({ [type]: bizType(any, { concurrency: 10, ...options }) });
    const { count, release, handler } = stubborn();
    biz.handle(type, handler);
    const { id } = await biz.now().submit(type, {}, { bizId: 'b' });
    await using worker = biz.worker({ lease: '1s' });
    await worker.start();
    await until(() => count.started === 1);
    await suite.db.knex.transaction((trx) => biz.in(trx).cancel({ id }));
    expect(await biz.redrive(id, { actor: 'test', reason: 'test' })).toBe(true);
    expect(await t().where({ id }).first()).toMatchObject({ status: 'SCHEDULED', lease_until: null });
    release();
    await until(() => count.started === 2);
    release();
    await until(async () => (await t().where({ id, status: 'SUCCESS' })).length === 1);
    expect(count.most).toBe(1);
  });

  it('may still commit after their timeout, if nothing else has happened to their row', async () => {
    const biz = suite.create({ committing: bizType(any, { serial: true, timeout: 20, retry: every(1) }) });
    let runs = 0;
    biz.handle('committing', async (_context, run) => {
      runs += 1;
      await new Promise<void>((resolve) => run.signal.addEventListener('abort', () => resolve()));
      return run.commit(async () => undefined);
    });
    const { id } = await biz.now().submit('committing', {}, { bizId: 'b' });
    await using worker = biz.worker();
    await worker.start();
    await until(async () => (await t().where({ id, status: 'SUCCESS' })).length === 1);
    expect(runs).toBe(1);
  });

  it('abort the signal of every row of a batch', async () => {
    const biz = suite.create({ batched: bizType(any, { concurrency: 1, timeout: 20, retry: every(1).upTo(1) }) });
    const aborted = new Set<string>();
    biz.handleBatch('batched', { size: 3 }, async (items) => {
      await Promise.all(
        items.map(
          ({ id, signal }) =>
            new Promise<void>((resolve) =>
              signal.addEventListener('abort', () => {
                aborted.add(id);
                resolve();
              }),
            ),
        ),
      );
    });
    await biz.now().submitMany('batched', [{}, {}, {}]);
    await using worker = biz.worker();
    await worker.start();
    await until(async () => (await t().where({ biz_type: 'batched', status: 'FAILED' })).length === 3);
    await until(() => aborted.size === 3);
  });

  it('are not taken for late before a timeout that is longer than a timer lasts', async () => {
    const biz = suite.create({ patient: bizType(any, { timeout: '60d', retry: every(1).upTo(1) }) });
    biz.handle('patient', () => new Promise<void>((resolve) => setImmediate(() => setImmediate(resolve))));
    const { id } = await biz.now().submit('patient', {});
    await using worker = biz.worker({ stopTimeout: '60d' });
    await worker.start();
    const row = await until(async () => (await t().where({ id }).whereIn('status', ['SUCCESS', 'FAILED']))[0]);
    expect(row.status).toBe('SUCCESS');
  });
});
