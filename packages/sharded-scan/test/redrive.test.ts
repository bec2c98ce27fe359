import { PassThrough } from 'node:stream';
import { until } from '@holdfast/core/testing';
import { afterEach, expect, it } from 'vitest';
import { inspectScans, scanJob } from '../src/index.ts';
import { onEveryPair } from './suite.ts';

onEveryPair('the failed rows of a scan', (suite) => {
  const exitCode = process.exitCode;
  afterEach(() => {
    process.exitCode = exitCode;
  });
  const base = 9_007_199_254_740_993n;
  const at = (n: number): string => String(base + BigInt(n));
  const failures = () => suite.databases[0].knex('scan_failure').select('unit', 'row_key', 'pass', 'error').orderBy('id');

  it('are handed over again, once each: handled and gone ones are removed, and those that fail again keep their new error', async () => {
    await suite.fill(30, 1, base);
    const seen: string[] = [];
    let failing = new Set([at(1), at(2), at(3), at(35), at(36)]);
    const scan = suite.scan({
      process: (rows) => {
        seen.push(...rows.map(({ id }) => id));
        return rows.map(({ id }) => (failing.has(id) ? new Error(`refused for the ${seen.length}th`) : undefined));
      },
    });
    for (const _pass of [1, 2]) expect(await scan.run({ only: '1' })).toMatchObject({ exitCode: 1 });
    expect(await failures()).toHaveLength(10);
    await suite.databases[0]
      .knex('thing_000')
      .where({ id: at(1) })
      .delete();
    await suite.databases[0]
      .knex('thing_000')
      .where({ id: at(2) })
      .update({ mq_state: 1 });
    failing = new Set([at(36)]);
    seen.splice(0);
    expect(await scan.redriveFailed({ only: '1' })).toEqual({ handled: 2, failed: 1, gone: 2, left: [], exitCode: 1 });
    expect(seen.sort()).toEqual([at(3), at(35), at(36)]);
    const [left, ...more] = await failures();
    expect(more).toEqual([]);
    expect(left).toMatchObject({ unit: '01.001', row_key: JSON.stringify([at(36)]) });
    expect(JSON.parse(String(left?.error))).toMatchObject({ message: expect.stringMatching(/^refused for the [123]th$/) });
    const counts = (await scan.progress({ only: '1' })).units.map(({ handled, failed }) => [handled, failed]);
    expect(counts).toEqual([
      [28, 0],
      [29, 1],
      [30, 0],
      [30, 0],
    ]);
    const inspection = inspectScans({ state: suite.databases[0].knex });
    expect(await inspection.list()).toMatchObject([{ status: 'failed', failed: 1 }]);
    failing.clear();
    expect(await scan.redriveFailed({ only: '1' })).toEqual({ handled: 1, failed: 0, gone: 0, left: [], exitCode: 0 });
    expect(await inspection.list()).toMatchObject([{ status: 'done', failed: 0, handled: 118 }]);
    expect(await scan.redriveFailed({ only: '1' })).toEqual({ handled: 0, failed: 0, gone: 0, left: [], exitCode: 0 });
    await inspection.close();
  });

  it('are left alone in a unit that an instance walks, and after an outage, a time-out and a stop', async () => {
    await suite.fill(5);
    let how: 'fails' | 'hangs' | 'is down' | 'works' = 'fails';
    let entered = 0;
    const scan = suite.scan({
      outage: '50ms',
      processTimeout: '150ms',
      process: () => {
        entered += 1;
        if (how === 'fails') throw new Error('no');
        if (how === 'is down') throw Object.assign(new Error('no'), { code: 'ECONNREFUSED' });
        return how === 'hangs' ? new Promise<never>(() => undefined) : undefined;
      },
    });
    await scan.run({ shard: [0, 8] });
    how = 'is down';
    expect(await scan.redriveFailed({ shard: [0, 8] })).toMatchObject({ handled: 0, left: ['01.000'], exitCode: 75 });
    how = 'hangs';
    expect(await scan.redriveFailed({ shard: [0, 8] })).toMatchObject({ handled: 0, left: ['01.000'], exitCode: 75 });
    how = 'works';
    const stop = new AbortController();
    stop.abort(new Error('enough'));
    expect(await scan.redriveFailed({ shard: [0, 8], signal: stop.signal })).toMatchObject({ handled: 0, exitCode: 75 });
    let release = (): void => undefined;
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    let walks = false;
    const walking = suite
      .other({
        process: () => {
          walks = true;
          return held;
        },
      })
      .run({ shard: [0, 8] });
    await until(() => walks);
    entered = 0;
    expect(await scan.redriveFailed({ shard: [0, 8] })).toMatchObject({ left: ['01.000'], exitCode: 75 });
    expect(entered).toBe(0);
    release();
    await walking;
    // Those of the pass before are still there.
    const stream = new PassThrough();
    await scanJob(scan, stream as unknown as NodeJS.WriteStream)(['--failed', '--shard', '0/8']);
    expect(String(stream.read())).toBe('things: of the failed rows, 5 handled, 0 failed again, 0 gone\n');
    expect(process.exitCode).toBe(0);
    expect(await failures()).toEqual([]);
  });
});
