import { every, monotonicMs, wait } from '@holdfast/core';
import { recordLog, until } from '@holdfast/core/testing';
import { expect, it } from 'vitest';
import { bizType, type Run } from '../src/index.ts';
import { seedRows } from './seed.ts';
import { onEveryDatabase } from './suite.ts';
import { any } from './suite-schema.ts';

const aborted = (signal: AbortSignal) => new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));

onEveryDatabase('stop', (suite) => {
  const t = () => suite.db.knex('compensate_biz');
  const rowsOf = (type: string) => t().where({ biz_type: type }).orderBy('id');

  const ends: Readonly<Record<string, (run: Pick<Run, 'signal'>) => unknown>> = {
    'rejects with the reason of its signal': async ({ signal }) => {
      await aborted(signal);
      throw signal.reason;
    },
    'throws an error of its own': async ({ signal }) => {
      await aborted(signal);
      throw Object.assign(new Error('This operation was aborted'), { name: 'AbortError' });
    },
    'throws an error that is not retryable': async ({ signal }) => {
      await aborted(signal);
      throw Object.assign(new Error('aborted'), { retryable: false });
    },
  };
  it.each(Object.keys(ends))('costs no attempt, however often, of a handler that %s when it is aborted', async (how) => {
    const [one, many] = [`${how.length} one`, `${how.length} many`];
    const options = { concurrency: 2, retry: every(1).upTo(3), maxLost: 3 };
    const biz = suite.create({ [one]: bizType(any, options), [many]: bizType(any, options) });
    let running = 0;
    const handler = (run: Pick<Run, 'signal'>) => {
      running += 1;
      return ends[how]?.(run);
    };
    biz.handle(one, (_context, run) => handler(run));
    biz.handleBatch(many, { size: 2 }, (items) => handler(items.at(-1) as (typeof items)[number]));
    await biz.now().submit(one, {});
    await biz.now().submitMany(many, [{}, {}]);
    for (let deploy = 0; deploy < 4; deploy++) {
      running = 0;
      const worker = biz.worker({ stopTimeout: 10 });
      await worker.start();
      await until(() => running >= 2);
      await worker.stop();
      for (const row of [...(await rowsOf(one)), ...(await rowsOf(many))])
        expect(row).toMatchObject({ status: 'WAIT_HANDLE', cnt: 0, starts: 0, lost: 0, owner: null });
    }
    expect(
      await suite.db.knex('compensate_biz_attempt').whereIn(
        'task_id',
        (await rowsOf(one)).map(({ id }) => id),
      ),
    ).toEqual([]);
  });

  it('keeps its rows for as long as aborted handlers take to end', async () => {
    const biz = suite.create({ tidy: bizType(any) });
    let end: () => void = () => undefined;
    let leaseAtAbort: number | undefined;
    let started = false;
    const lease = async () => Number((await rowsOf('tidy'))[0].lease_until);
    biz.handle('tidy', async (_context, run) => {
      started = true;
      await aborted(run.signal);
      leaseAtAbort = await lease();
      await new Promise<void>((resolve) => {
        end = resolve;
      });
      throw run.signal.reason;
    });
    await biz.now().submit('tidy', {});
    const worker = biz.worker({ stopTimeout: 10, lease: '600ms' });
    await worker.start();
    await until(() => started);
    const stopped = worker.stop();
    await until(() => leaseAtAbort !== undefined);
    // Renewed twice: without that, it would have expired.
    await until(async () => (await lease()) > (leaseAtAbort ?? 0) + 300);
    end();
    await stopped;
    expect(await rowsOf('tidy')).toMatchObject([{ status: 'WAIT_HANDLE', cnt: 0, starts: 0, lost: 0 }]);
  });

  it.each(['one', 'many'])('leaves a handler of %s row(s) behind that ignores its signal, and says which rows', async (how) => {
    const log = recordLog();
    const type = `endless ${how}`;
    const biz = suite.create({ [type]: bizType(any, { timeout: '1h' }) }, { logger: log });
    const ends: (() => void)[] = [];
    const endless = () => new Promise<void>((resolve) => ends.push(resolve));
    if (how === 'one') biz.handle(type, endless);
    else biz.handleBatch(type, { size: 2 }, endless);
    const { id } = await biz.now().submit(type, {});
    const worker = biz.worker({ stopTimeout: 10, lease: '2s' });
    await worker.start();
    await until(() => ends.length === 1);
    const began = monotonicMs();
    await worker.stop();
    expect(monotonicMs() - began).toBeLessThan(6_000);
    expect(worker.inFlight).toBe(0);
    expect(log.at('warn', 'ignore their signal')).toMatchObject([{ fields: { count: 1, leaseMs: 2_000, rows: [{ id, type }] } }]);
    // Nobody renews the lease: another worker takes the row when it has expired, and the end of the first run counts no more.
    await using other = biz.worker();
    await other.start();
    await until(() => ends.length === 2, { withinMs: 10_000 });
    ends[0]?.();
    await until(() => log.at('debug', 'had left behind').length === 1);
    expect(await rowsOf(type)).toMatchObject([{ status: 'PROCESSING', owner: other.id }]);
    ends[1]?.();
    await until(async () => (await rowsOf(type))[0].status === 'SUCCESS');
    // A worker that was stopped so can be started again.
    await biz.now().submit(type, {});
    await other.stop();
    await worker.start();
    await until(() => ends.length === 3);
    ends[2]?.();
    await worker.stop();
    expect((await rowsOf(type)).map(({ status }) => status)).toEqual(['SUCCESS', 'SUCCESS']);
  });

  it('waits for as long as it is told to, also if that is longer than a timer lasts', async () => {
    const biz = suite.create({ long: bizType(any) });
    let signal: AbortSignal | undefined;
    let end: () => void = () => undefined;
    biz.handle('long', (_context, run) => {
      signal = run.signal;
      return new Promise<void>((resolve) => {
        end = resolve;
      });
    });
    await biz.now().submit('long', {});
    const worker = biz.worker({ stopTimeout: '60d' });
    await worker.start();
    await until(() => signal);
    const stopped = worker.stop();
    await wait(30);
    expect(signal?.aborted).toBe(false);
    end();
    await stopped;
    expect(await rowsOf('long')).toMatchObject([{ status: 'SUCCESS' }]);
  });

  it('aborts handlers in time also while a look at the table takes long', async () => {
    const biz = suite.create({ looked: bizType(any) });
    let [started, interrupted] = [false, false];
    biz.handle('looked', async (_context, { signal }) => {
      started = true;
      await aborted(signal);
      interrupted = true;
    });
    await biz.now().submit('looked', {});
    const worker = biz.worker({ stopTimeout: 10 });
    await worker.start();
    await until(() => started);
    const ready = biz.table.ready.bind(biz.table);
    const { promise: held, resolve: release } = Promise.withResolvers<void>();
    let looking = false;
    biz.table.ready = async (query) => {
      looking = true;
      await held;
      return ready(query);
    };
    biz.wake();
    await until(() => looking);
    const stopped = worker.stop();
    try {
      await until(() => interrupted, { withinMs: 3_000 });
    } finally {
      release();
      await stopped;
    }
  });

  it('does not wait for the end of a sweep', async () => {
    const biz = suite.create({ swept: bizType(any, { keep: '1d' }) });
    biz.handle('swept', () => undefined);
    const updated_at = suite.db.name === 'sqlite' ? "'2020-01-01 00:00:00.000'" : "'2020-01-01'";
    await seedRows(suite.db, 8_000, { biz_type: "'swept'", context: "'{}'", status: "'SUCCESS'", updated_at });
    const worker = biz.worker();
    const { database } = biz;
    const transaction = database.transaction.bind(database);
    let stopped: Promise<void> | undefined;
    database.transaction = (async (run: never) => {
      const done = await transaction(run);
      if (Number((await t().where({ biz_type: 'swept' }).count({ n: '*' }))[0]?.n) < 8_000) stopped ??= worker.stop();
      return done;
    }) as typeof database.transaction;
    await worker.start();
    await until(() => stopped !== undefined);
    await stopped;
    expect((await rowsOf('swept')).length).toBeGreaterThan(0);
    database.transaction = transaction;
    await biz.sweep();
    expect(await rowsOf('swept')).toEqual([]);
  });

  it('claims nothing any more, also if a breaker answers only after the stop', async () => {
    const biz = suite.create({ guarded: bizType(any, { breaker: {} }) });
    biz.handle('guarded', () => undefined);
    const { database } = biz;
    const rows = database.rows.bind(database);
    const { promise: held, resolve: release } = Promise.withResolvers<void>();
    const answers: Promise<unknown>[] = [];
    database.rows = (async (sql: string, params?: readonly unknown[]) => {
      if (!sql.includes('holdfast_breaker')) return rows(sql, params);
      const answer = held.then(() => rows(sql, params));
      answers.push(answer);
      return answer;
    }) as typeof database.rows;
    let claims = 0;
    const claim = biz.table.claim.bind(biz.table);
    biz.table.claim = (query, cap) => {
      claims += 1;
      return claim(query, cap);
    };
    await t().insert({ biz_type: 'guarded', context: '{}' });
    const worker = biz.worker();
    await worker.start();
    await until(() => answers.length > 0);
    await worker.stop();
    release();
    await Promise.all(answers);
    await new Promise((resolve) => setImmediate(resolve));
    expect(claims).toBe(0);
  });

  it('counts what a handler decides when it is aborted', async () => {
    const biz = suite.create({ decided: bizType(any, { retry: every('1h').upTo(3) }) });
    let started = 0;
    biz.handle('decided', async (context, run) => {
      started += 1;
      await aborted(run.signal);
      return context.ok ? undefined : run.retry();
    });
    await biz.now().submitMany('decided', [{ ok: true }, {}]);
    const worker = biz.worker({ stopTimeout: 10 });
    await worker.start();
    await until(() => started === 2);
    await worker.stop();
    expect(await rowsOf('decided')).toMatchObject([
      { status: 'SUCCESS', cnt: 0 },
      { status: 'SCHEDULED', cnt: 1 },
    ]);
  });

  it('does not run a row again and again whose handler throws the lease-lost error of something else', async () => {
    const biz = suite.create({ borrowed: bizType(any, { retry: every(1).upTo(2) }) });
    const lost = () => {
      throw Object.assign(new Error('the lease on lane 3 was lost'), { code: 'lease-lost', retryable: true });
    };
    biz.handleBatch('borrowed', { size: 2 }, lost);
    await biz.now().submitMany('borrowed', [{}, {}]);
    await using worker = biz.worker();
    await worker.start();
    await until(async () => (await t().where({ biz_type: 'borrowed', status: 'FAILED' })).length === 2);
  });
});
