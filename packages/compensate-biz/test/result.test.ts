import { every, ProgressReports, silentLogger, Telemetry } from '@holdfast/core';
import { until } from '@holdfast/core/testing';
import { expect, it } from 'vitest';
import { registryOf } from '../src/biz.ts';
import { bizType, InvalidResultError, type Progress } from '../src/index.ts';
import { HandlerRunner } from '../src/run/handler-runner.ts';
import { onEveryDatabase } from './suite.ts';
import { any, schemaOf } from './suite-schema.ts';

const receipt = schemaOf<{ receipt: string }>((value) =>
  typeof (value as { receipt?: unknown })?.receipt === 'string' ? undefined : 'must have a receipt',
);

const slowReceipt: typeof receipt = {
  '~standard': { ...receipt['~standard'], validate: async (value) => receipt['~standard'].validate(value) },
};
const schemas: Readonly<Record<string, { readonly result: never }>> = {
  'not of its schema': { result: receipt as never },
  'not of its asynchronous schema': { result: slowReceipt as never },
};

onEveryDatabase('the result and the progress of a run', (suite) => {
  const row = async (id: string) => suite.db.knex('compensate_biz').where({ id }).first();

  it('keeps what a handler returns, by every way to succeed, and shows it', async () => {
    const biz = suite.create({ plain: bizType(any), typed: bizType(any, { result: receipt }), none: bizType(any, { keep: 'none' }) });
    biz.handle('plain', (context, run) => {
      if (context.how === 'sync') return { n: context.n };
      if (context.how === 'async') return Promise.resolve(context.n);
      if (context.how === 'commit') return run.commit(() => undefined, { result: [context.n] });
      if (context.how === 'follow') {
        run.submit('plain', { how: 'nothing' }, { bizId: 'followed' });
        return `n ${context.n}`;
      }
      if (context.how === 'null') return null;
      return undefined;
    });
    biz.handle('typed', () => ({ receipt: 'r-1' }));
    biz.handle('none', () => 12n);
    const ids: Record<string, string> = {};
    for (const how of ['sync', 'async', 'commit', 'follow', 'null', 'nothing'])
      ids[how] = (await biz.now().submit('plain', { how, n: 7 })).id;
    const typed = await biz.now().submit('typed', {});
    const none = await biz.now().submit('none', {});
    await using worker = biz.worker();
    await worker.start();
    const result = async (id = '') => (await biz.waitFor(id))?.result;
    expect(await result(ids.sync)).toEqual({ n: 7 });
    expect(await result(ids.async)).toBe(7);
    expect(await result(ids.commit)).toEqual([7]);
    expect(await result(ids.follow)).toBe('n 7');
    expect(await result(ids.null)).toBeNull();
    expect(await result(ids.nothing)).toBeUndefined();
    const task = await biz.waitFor({ id: typed.id });
    // Typed by the schema.
    expect(task?.type === 'typed' && task.result?.receipt).toBe('r-1');
    await until(async () => (await row(none.id)) === undefined);
    expect(await biz.waitFor(none.id)).toBeUndefined();
    expect((await biz.find({ type: 'typed' }))[0]?.result).toEqual({ receipt: 'r-1' });
    expect((await biz.inspect().get(typed.id))?.run_result).toBe('{"receipt":"r-1"}');
    expect(await biz.find({ bizId: 'followed' })).toHaveLength(1);
  });

  it('keeps many results that are settled together, each with its row, beside rows without one', async () => {
    const biz = suite.create({ many: bizType(any, { concurrency: 100 }), batch: bizType(any) });
    biz.handle('many', (context) => (Number(context.i) % 3 === 0 ? undefined : { i: context.i, text: "it's ? \\ \u00e9 \u{1F600} {now}" }));
    biz.handleBatch('batch', { size: 50 }, async (items, batch) => {
      for (const item of items) if (Number(item.context.i) % 2 === 0) batch.result(item, item.context.i);
      const [first] = items;
      if (first && Number(first.context.i) % 4 === 0) await batch.commit(() => undefined);
    });
    const contexts = Array.from({ length: 600 }, (_, i) => ({ i }));
    await biz.now().submitMany('many', contexts);
    await biz.now().submitMany('batch', contexts);
    await using worker = biz.worker();
    await worker.start();
    const open = () => suite.db.knex('compensate_biz').whereIn('biz_type', ['many', 'batch']).whereNot({ status: 'SUCCESS' });
    await until(async () => (await open()).length === 0);
    for (const task of await biz.find({ type: 'many', limit: 1_000 })) {
      const { i } = ((await biz.get(task.id))?.context ?? {}) as { i: number };
      expect(task.result).toEqual(i % 3 === 0 ? undefined : { i, text: "it's ? \\ \u00e9 \u{1F600} {now}" });
      if (i > 60) break;
    }
    const rows = await suite.db.knex('compensate_biz').where({ biz_type: 'batch' }).select('context', 'run_result');
    for (const { context, run_result } of rows) {
      const { i } = JSON.parse(context) as { i: number };
      expect(run_result).toBe(i % 2 === 0 ? String(i) : null);
    }
  });

  it.each([
    ['too large', () => 'x'.repeat(70_000), /The result of step is 70002 bytes; the limit is 65536 \(maxResultBytes\)/],
    ['a bigint', () => ({ n: 1n }), /The result of step can't be written as JSON/],
    ['a function', () => () => 1, /The result of step is function, which JSON does not have/],
    ['with NUL', () => 'a\0b', /The result of step holds a NUL character/],
    ['not of its schema', () => Promise.resolve({}), /does not fit the type's result schema: field: must have a receipt/],
    ['not of its asynchronous schema', () => ({}), /does not fit the type's result schema: field: must have a receipt/],
  ])('makes a row FAILED at once whose result is %s, and says why', async (name, value, message) => {
    const biz = suite.create({
      step: bizType(any, { retry: every(1).upTo(5), ...(schemas[name] ?? { result: schemaOf<unknown>() }) }),
    });
    let runs = 0;
    biz.handle('step', () => {
      runs += 1;
      return value();
    });
    const { id } = await biz.now().submit('step', {});
    await using worker = biz.worker();
    await worker.start();
    const task = await biz.waitFor(id);
    expect(task).toMatchObject({ status: 'FAILED', deadReason: 'rejected', result: undefined, error: { code: 'invalid-result' } });
    expect(task?.error?.message).toMatch(message);
    expect(runs).toBe(1);
  });

  it.each([
    ['too large', () => 'x'.repeat(70_000)],
    ['a bigint', () => ({ n: 1n })],
    ['a function', () => () => 1],
    ['a circle', () => Object.assign([], { 0: globalThis, length: 1 })],
  ])('is SUCCESS without a result that is %s, where the type has no schema for it: the work is done', async (_, value) => {
    const lines: unknown[] = [];
    const logger = { ...silentLogger, error: (_fields: object, message: string) => void lines.push(message) };
    const biz = suite.create({ step: bizType(any) }, { logger });
    biz.handle('step', () => value());
    const { id } = await biz.now().submit('step', {});
    await using worker = biz.worker();
    await worker.start();
    expect(await biz.waitFor(id)).toMatchObject({ status: 'SUCCESS', result: undefined });
    expect(lines).toEqual(['the value that the handler returned can not be stored as its result; the row is SUCCESS without a result']);
  });

  it('commits nothing under a result that can\u2019t be stored, and is no success if the handler goes on', async () => {
    const biz = suite.create({ step: bizType(any) });
    let effects = 0;
    let thrown: unknown;
    biz.handle('step', async (_, run) => {
      await run
        .commit(() => void (effects += 1), { result: 'x'.repeat(70_000) })
        .catch((error: unknown) => {
          thrown = error;
        });
    });
    const { id } = await biz.now().submit('step', {});
    await using worker = biz.worker();
    await worker.start();
    expect(await biz.waitFor(id)).toMatchObject({ status: 'FAILED', result: undefined });
    expect(effects).toBe(0);
    expect(thrown).toBeInstanceOf(InvalidResultError);
  });

  it('shows the progress of a run under way, writes it seldom, and keeps the last report of a long run', async () => {
    const biz = suite.create({ long: bizType(any, { retry: every('1h') }) });
    let release: () => void = () => undefined;
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    biz.handle('long', async (context, run) => {
      for (let done = 1; done <= 200; done++) run.progress({ done, total: 400, note: "half's \0 done" });
      await held;
      run.progress(0.75);
      if (context.fail) throw new Error('at three quarters');
      return 'done';
    });
    const ids = [(await biz.now().submit('long', {})).id, (await biz.now().submit('long', { fail: true })).id];
    let writes = 0;
    const { report } = biz.table;
    biz.table.report = (reports) => {
      writes += 1;
      return report.call(biz.table, reports);
    };
    const worker = biz.worker();
    await worker.start();
    for (const id of ids)
      expect(await until(async () => (await biz.get(id))?.progress)).toEqual({
        done: 200,
        total: 400,
        note: "half's \uFFFD done",
      } satisfies Progress);
    expect(writes).toBeLessThanOrEqual(2);
    const [first = '', second = ''] = ids;
    const before = await row(first);
    release();
    expect(await biz.waitFor(first)).toMatchObject({ status: 'SUCCESS', progress: 0.75, result: 'done', failedAttempts: 0 });
    const failed = await until(async () => {
      const task = await biz.get(second);
      return task?.status === 'SCHEDULED' && task;
    });
    expect(failed).toMatchObject({ progress: 0.75, failedAttempts: 1 });
    expect(Number((await row(first)).version)).toBe(Number(before.version));
    await worker.stop();
  });

  it('drops the report of a run whose row has passed to another', async () => {
    const biz = suite.create({ long: bizType(any) });
    let report: (value: Progress) => void = () => undefined;
    let release: () => void = () => undefined;
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    biz.handle('long', async (_, run) => {
      report = (value) => run.progress(value);
      report(0.1);
      await held;
    });
    const { id } = await biz.now().submit('long', {});
    const worker = biz.worker();
    await worker.start();
    await until(async () => (await biz.get(id))?.progress === 0.1);
    await suite.db.knex('compensate_biz').where({ id }).increment('version', 1);
    let written = false;
    const original = biz.table.report;
    biz.table.report = (reports) => original.call(biz.table, reports).then(() => void (written = true));
    report(0.2);
    await until(() => written);
    expect((await biz.get(id))?.progress).toBe(0.1);
    release();
    await worker.stop();
    report(0.3);
    expect((await biz.get(id))?.progress).toBe(0.1);
  });

  it('keeps nothing in memory of a run that reports while it commits', async () => {
    const biz = suite.create({ reporting: bizType(any) });
    biz.handle('reporting', (_context, run) => run.commit(() => run.progress(0.5)));
    const registry = registryOf(biz as never);
    const reports = new ProgressReports(registry.table, registry.logger);
    const worker = { id: 'w', onCounted: () => undefined, onCommitted: () => undefined };
    const runner = new HandlerRunner({ registry, telemetry: new Telemetry('test'), worker, reports, leaseMs: 30_000 });
    const { id } = await biz.now().submit('reporting', {});
    const rows = await biz.table.claimIds([id], { kind: 'reporting', owner: 'w', leaseMs: 30_000 });
    await runner.run(rows.map((row) => ({ row, signal: new AbortController().signal, interrupted: false })));
    expect((await biz.get(id))?.status).toBe('SUCCESS');
    expect(reports.size).toBe(0);
  });

  it('refuses reports that say nothing', async () => {
    const biz = suite.create({ step: bizType(any) });
    const errors: string[] = [];
    biz.handle('step', (_, run) => {
      const bad = [
        1.5,
        -0.1,
        Number.NaN,
        null,
        'half',
        { done: -1 },
        { done: 1, total: Number.NaN },
        {},
        { done: 1, note: 'x'.repeat(501) },
      ];
      for (const value of bad)
        try {
          run.progress(value as never);
        } catch (error) {
          errors.push((error as Error).message);
        }
    });
    const { id } = await biz.now().submit('step', {});
    await using worker = biz.worker();
    await worker.start();
    expect(await biz.waitFor(id)).toMatchObject({ status: 'SUCCESS', progress: undefined });
    expect(errors.map((message) => message.replace(/ See .*/, ''))).toEqual([
      'progress is 1.5; give a share from 0 to 1, or { done, total }.',
      'progress is -0.1; give a share from 0 to 1, or { done, total }.',
      'progress is NaN; give a share from 0 to 1, or { done, total }.',
      'progress is null; give a share from 0 to 1, or { done, total, note }.',
      'progress is half; give a share from 0 to 1, or { done, total, note }.',
      'progress.done is -1; give a number from 0.',
      'progress.total is NaN; give a number from 0.',
      'progress.done is undefined; give a number from 0.',
      'progress.note is 501 characters; give a text of at most 500.',
    ]);
  });

  it('is waited for no longer than asked, and until the signal', async () => {
    const biz = suite.create({ step: bizType(any) });
    const { id } = await biz.now().submit('step', {}, { once: 'first' });
    await expect(biz.waitFor(id, { timeout: '50ms' })).rejects.toMatchObject({
      code: 'wait-timeout',
      message: expect.stringMatching(new RegExp(`^Row ${id} did not end within 50 ms; it is WAIT_HANDLE`)),
    });
    const stop = new AbortController();
    const waiting = biz.waitFor({ type: 'step', once: 'first' }, { signal: stop.signal });
    stop.abort(new Error('no more'));
    await expect(waiting).rejects.toThrow('no more');
    expect(await biz.waitFor('99999999')).toBeUndefined();
    expect(await biz.waitFor({ type: 'step', once: 'never' })).toBeUndefined();
    await expect(biz.waitFor('x')).rejects.toThrow(/id is "x"/);
    // Ended by another process.
    const ended = biz.waitFor(id);
    await suite.db.knex('compensate_biz').where({ id }).update({ status: 'CANCELLED' });
    expect(await ended).toMatchObject({ status: 'CANCELLED' });
  });
});
