import { until } from '@holdfast/core/testing';
import { afterEach, expect, it } from 'vitest';
import { inspectScans, type ScanInspection } from '../src/index.ts';
import { onEveryPair } from './suite.ts';

onEveryPair('the inspection of scans', (suite) => {
  const opened: ScanInspection[] = [];
  const inspect = (): ScanInspection => {
    const inspection = inspectScans({ state: suite.databases[0].knex });
    opened.push(inspection);
    return inspection;
  };
  afterEach(async () => {
    for (const inspection of opened.splice(0)) await inspection.close();
  });
  const by = { actor: 'alice', reason: 'the table is there again' };

  it('lists passes by scan and scope, page by page, with their status and counts, and counts them by scan', async () => {
    await suite.fill(20);
    await suite.scan().run();
    await suite.other({ name: 'other' }).run({ only: '1' });
    const failing = suite.other({
      name: 'failing',
      process: (rows) => {
        if (rows.some(({ id }) => id === '7')) throw new Error('there is no customer 7');
      },
    });
    await failing.run({ shard: [0, 2] });
    await failing.run({ shard: [1, 2] });
    const inspection = inspect();
    const all = await inspection.list();
    expect(all.map(({ id, status, units, ended_units }) => [id, status, units, ended_units])).toEqual([
      ['failing/shard 0/2', 'failed', 4, 4],
      ['failing/shard 1/2', 'done', 4, 4],
      ['other/only 1', 'done', 4, 4],
      ['things/all', 'done', 8, 8],
    ]);
    expect(all[0]).toMatchObject({ pass: '1', failed_units: 0, examined: 80, matched: 80, handled: 79, failed: 1 });
    for (const { started_at, ended_at } of all) expect(ended_at).toBeGreaterThanOrEqual(started_at);
    const pages: string[] = [];
    for (let after: string | undefined; ; ) {
      const page = await inspection.list({ limit: 3, ...(after === undefined ? {} : { after }) });
      pages.push(...page.map(({ id }) => id));
      after = page.at(-1)?.id;
      if (page.length < 3) break;
    }
    expect(pages).toEqual(all.map(({ id }) => id));
    expect((await inspection.list({ status: 'failed' })).map(({ id }) => id)).toEqual(['failing/shard 0/2']);
    expect((await inspection.list({ status: 'done', kind: 'failing' })).map(({ id }) => id)).toEqual(['failing/shard 1/2']);
    expect(await inspection.list({ status: 'open' })).toEqual([]);
    const none = { oldestOpenMs: 0, unitsTodo: 0, unitsRunning: 0, unitsFailed: 0, unitsCancelled: 0, cancelled: 0 };
    expect(await inspection.stats()).toEqual([
      { scan: 'failing', open: 0, done: 1, failed: 1, unitsDone: 8, rowsFailed: 1, ...none },
      { scan: 'other', open: 0, done: 1, failed: 0, unitsDone: 4, rowsFailed: 0, ...none },
      { scan: 'things', open: 0, done: 1, failed: 0, unitsDone: 8, rowsFailed: 0, ...none },
    ]);
    expect(await inspection.get('failing/shard 0/2')).toMatchObject({
      status: 'failed',
      instances: 0,
      failures: [{ unit: '01.000', pass: '1', key: ['7'], error: { message: 'there is no customer 7' } }],
    });
    for (const id of ['17', 'things/only 1', 'nobody/all']) expect(await inspection.get(id), id).toBeUndefined();
    for (const query of [{ limit: 0 }, { limit: 1_001 }, { status: 'broken' }, { after: '17' }])
      await expect(inspection.list(query), JSON.stringify(query)).rejects.toMatchObject({ code: 'invalid-argument' });
  });

  it('shows an open pass, with the instances that walk it and the progress of its units', async () => {
    await suite.fill(20);
    let release = (): void => undefined;
    const gate = new Promise<void>((resolve) => {
      release = resolve;
    });
    let entered = false;
    const stop = new AbortController();
    const running = suite
      .scan({
        batch: 10,
        concurrency: 1,
        process: async () => {
          entered = true;
          await gate;
        },
      })
      .run({ signal: stop.signal });
    try {
      await until(() => entered);
      const inspection = inspect();
      expect(await inspection.list({ status: 'open' })).toMatchObject([{ id: 'things/all', ended_at: null, units: 8, ended_units: 0 }]);
      expect(await inspection.get('things/all')).toMatchObject({ status: 'open', instances: 1 });
      const [stats] = await inspection.stats();
      expect(stats).toMatchObject({ scan: 'things', open: 1, unitsRunning: 1, unitsTodo: 7 });
      expect(await inspection.actions.redrive('things/all', by)).toBe(0);
      stop.abort(new Error('enough'));
      release();
      expect(await running).toMatchObject({ exitCode: 75 });
      const pass = await inspection.get('things/all');
      expect(pass).toMatchObject({ status: 'open', instances: 0 });
      expect(pass?.units.find(({ unit }) => unit === '01.000')).toMatchObject({ state: 'running', handled: 10, position: ['10'] });
    } finally {
      release();
      await running;
    }
  });

  it('redrives the failed units of a pass that has ended, from their checkpoints, on record', async () => {
    await suite.fill(20);
    const [first] = suite.databases;
    const seen: string[] = [];
    let broken = true;
    const scan = suite.scan({
      batch: 10,
      // Fails its unit after the first checkpoint.
      throttle: () => {
        if (broken && seen.includes('1')) throw new Error('the throttle is broken');
        return 0;
      },
      concurrency: 1,
      process: (rows) => void seen.push(...rows.map(({ id }) => id)),
    });
    expect(await scan.run({ only: '1' })).toMatchObject({ exitCode: 1 });
    const inspection = inspect();
    const id = 'things/only 1';
    const before = await inspection.get(id);
    expect(before).toMatchObject({ status: 'failed', failed_units: 4 });
    expect(before?.units[0]).toMatchObject({ unit: '01.000', state: 'failed', position: ['10'], handled: 10 });
    await expect(inspection.actions.redrive(id, { actor: 'alice', reason: '' })).rejects.toMatchObject({ code: 'invalid-argument' });
    expect(await inspection.actions.redrive(id, by)).toBe(1);
    expect(await inspection.get(id)).toMatchObject({ status: 'open', ended_units: 0, failed_units: 0 });
    // It is open now.
    expect(await inspection.actions.redrive(id, by)).toBe(0);
    broken = false;
    expect(await scan.run({ only: '1' })).toMatchObject({ pass: '1', resumed: true, exitCode: 0 });
    // Each row once: the unit that had a checkpoint went on after it.
    expect(seen.map(Number).sort((a, b) => a - b)).toEqual(Array.from({ length: 80 }, (_, i) => i + 1));
    expect((await inspection.get(id))?.units.map(({ handled, error }) => [handled, error])).toEqual(new Array(4).fill([20, undefined]));
    for (const nothing of [id, '17', 'nobody/all']) expect(await inspection.actions.redrive(nothing, by), nothing).toBe(0);
    expect(await first.knex('holdfast_audit').where({ action: 'sharded-scan:redrive' }).select('actor', 'subject', 'reason')).toEqual([
      { actor: 'alice', subject: id, reason: by.reason },
    ]);
    expect(await scan.run({ only: '1' })).toMatchObject({ pass: '2', resumed: false });
  });

  it('cancels an open pass: its instances leave it, nothing of them is counted, and the next run begins another', async () => {
    await suite.fill(60);
    const release: (() => void)[] = [];
    let held = true;
    const scan = suite.scan({
      batch: 10,
      concurrency: 2,
      process: (rows) => {
        if (held && rows[0]?.id === '11') return new Promise<void>((resolve) => release.push(resolve));
        return undefined;
      },
    });
    const running = scan.run({ only: '1' });
    await until(() => release.length === 1);
    const inspection = inspect();
    const id = 'things/only 1';
    await expect(inspection.actions.cancel(id, { actor: '', reason: 'x' })).rejects.toMatchObject({ code: 'invalid-argument' });
    expect(await inspection.actions.cancel(id, by)).toBe(1);
    expect(await inspection.actions.cancel(id, by)).toBe(0);
    expect(await inspection.get(id)).toMatchObject({ status: 'cancelled', ended_units: 4 });
    for (const end of release) end();
    const { exitCode, units } = await running;
    expect(exitCode).toBe(1);
    expect(units.find(({ unit }) => unit === '01.000')).toMatchObject({ state: 'cancelled', handled: 10, position: ['10'] });
    expect((await inspection.list({ status: 'cancelled' })).map((pass) => pass.id)).toEqual([id]);
    // Redriven, it continues where it was; else another pass begins.
    held = false;
    expect(await inspection.actions.redrive(id, by)).toBe(1);
    const again = await scan.run({ only: '1' });
    expect(again).toMatchObject({ pass: '1', resumed: true, exitCode: 0 });
    expect(again.units.map(({ handled }) => handled)).toEqual([60, 60, 60, 60]);
    expect(await inspection.actions.cancel(id, by)).toBe(0);
    expect(await scan.run({ only: '1' })).toMatchObject({ pass: '2', resumed: false });
    expect(await suite.databases[0].knex('holdfast_audit').where({ action: 'sharded-scan:cancel' })).toHaveLength(1);
    await suite.databases[0].knex('holdfast_audit').delete();
  });

  it('resets a pass: every unit is walked from its first row under the same number, also while it is in progress', async () => {
    await suite.fill(30);
    const times = new Map<string, number>();
    const release: (() => void)[] = [];
    let hold = false;
    const scan = suite.scan({
      batch: 10,
      lease: '1s',
      process: async (rows) => {
        if (hold && rows[0]?.id === '11') {
          hold = false;
          await new Promise<void>((resolve) => release.push(resolve));
        }
        for (const { id } of rows) times.set(id, (times.get(id) ?? 0) + 1);
        if (rows.some(({ id }) => id === '7')) throw new Error('no');
      },
    });
    const inspection = inspect();
    const id = 'things/only 1';
    expect(await inspection.actions.reset(id, by)).toBe(0);
    expect(await scan.run({ only: '1' })).toMatchObject({ pass: '1', exitCode: 1 });
    expect(await inspection.actions.reset(id, by)).toBe(1);
    expect(await inspection.get(id)).toMatchObject({ status: 'open', ended_units: 0, examined: 0, failed: 0, failures: [] });
    times.clear();
    hold = true;
    const running = scan.run({ only: '1' });
    await until(() => release.length === 1);
    await until(async () => (await inspection.get(id))?.ended_units === 3);
    expect(await inspection.actions.reset(id, by)).toBe(1);
    for (const end of release) end();
    const { pass, exitCode, units } = await running;
    expect({ pass, exitCode }).toEqual({ pass: '1', exitCode: 1 });
    expect(units.map(({ examined, handled, failed }) => [examined, handled, failed])).toEqual([
      [30, 29, 1],
      ...new Array(3).fill([30, 30, 0]),
    ]);
    // Twice each, but for the rows behind the batch that the reset interrupted.
    expect([...times].filter(([, n]) => n < 2).map(([row]) => Number(row))).toEqual([21, 22, 23, 24, 25, 26, 27, 28, 29, 30]);
    expect((await inspection.get(id))?.failures).toHaveLength(1);
  });
});
