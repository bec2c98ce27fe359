import { coreSchema, migrate, silentLogger } from '@holdfast/core';
import { type TestDatabase, testDialects, until } from '@holdfast/core/testing';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { api, createScheduler, cron, delay, every, type Scheduler, schedulerSchema } from '../src/index.ts';
import { insertRun } from '../src/job/insert-run.ts';
import { planJobs } from '../src/plan/plan-jobs.ts';
import { Registry } from '../src/registry.ts';
import { purgeRuns } from '../src/run/purge-runs.ts';
import { repairDelays } from '../src/run/rearm-delays.ts';

describe.each(testDialects())('the scheduler on $name', (dialect) => {
  let db: TestDatabase;
  const open: { close(): Promise<void> }[] = [];
  let apps = 0;
  beforeAll(async () => {
    db = await dialect.create();
    await migrate(db.knex, [coreSchema, schedulerSchema]);
  });
  afterEach(async () => {
    for (const one of open.splice(0).reverse()) await one.close();
    await db.knex('scheduler_job').delete();
  });
  afterAll(() => db.drop());

  const scheduler = (app = `app-${++apps}`): Scheduler => {
    const one = createScheduler({ knex: db.knex, app, logger: silentLogger });
    open.push(one);
    return one;
  };
  const started = async (one: Scheduler, options = {}): Promise<void> => {
    const worker = one.worker({ lease: '2s', ...options });
    await worker.start();
    open.push({ close: () => worker.stop() });
  };
  interface Run {
    readonly id: string;
    readonly status: string;
    readonly fire_at: number | null;
    readonly run_result: string | null;
    readonly last_error: string | null;
    readonly job_version: number;
  }
  const runsOf = async (processor: string): Promise<Run[]> => {
    const rows = await db.knex('scheduler_run').where({ processor }).orderBy('id');
    return rows.map((row) => ({ ...row, id: String(row.id), fire_at: row.fire_at === null ? null : Number(row.fire_at) }));
  };
  /** An open registry on the same database, for single passes. */
  const registry = (app: string): Registry => {
    const one = new Registry({ knex: db.knex, app, logger: silentLogger });
    open.push(one);
    return one;
  };

  it('runs a job that code declares, at its time and once each fire, by several workers', async () => {
    const [first, second] = [scheduler('shared'), scheduler('shared')];
    const seen: { readonly fireAt: number; readonly lateMs: number }[] = [];
    for (const one of [first, second])
      one.job('tick', { trigger: every('1s') }, async (_, run) => {
        const fireAt = run.fireAt?.getTime() ?? 0;
        seen.push({ fireAt, lateMs: (await registryNow()) - fireAt });
        return { at: fireAt };
      });
    const registryNow = (): Promise<number> => clock.database.now();
    const clock = registry('clock');
    await started(first);
    await started(second);
    await until(() => seen.length >= 3 || undefined, { withinMs: 15_000 });
    expect(new Set(seen.map(({ fireAt }) => fireAt)).size).toBe(seen.length);
    // Never early. The clock of the database may be read in whole milliseconds.
    for (const { lateMs } of seen) expect(lateMs).toBeGreaterThanOrEqual(0);
    const rows = (await runsOf('tick')).filter(({ status }) => status === 'SUCCEEDED');
    expect(JSON.parse(rows[0]?.run_result ?? '')).toEqual({ at: rows[0]?.fire_at });
  });

  it('writes one run for each fire though many plan at once', async () => {
    const app = 'many';
    const one = scheduler(app);
    for (let i = 0; i < 20; i++) await one.jobs.save({ key: `job-${i}`, processor: 'nobody', trigger: every('1s'), overlap: 'allow' });
    const planners = [registry(app), registry(app), registry(app)];
    await Promise.all(planners.map(({ database }) => planJobs(database, 5_000)));
    for (const { database } of planners) await planJobs(database, 5_000);
    const rows = await runsOf('nobody');
    expect(rows.length).toBeGreaterThanOrEqual(100);
    expect(new Set(rows.map((row) => `${(row as unknown as { job_id: string }).job_id}/${row.fire_at}`)).size).toBe(rows.length);
  });

  it('takes turns: a job whose runs queue has one run at a time, in order', async () => {
    const one = scheduler();
    let running = 0;
    let most = 0;
    const order: string[] = [];
    one.job<{ n: number }>('queued', { trigger: api() }, async ({ n }) => {
      most = Math.max(most, ++running);
      await new Promise((resolve) => setTimeout(resolve, 30));
      running--;
      order.push(String(n));
    });
    await started(one);
    for (let n = 0; n < 5; n++) await one.jobs.trigger('queued', { params: { n } });
    await until(() => order.length === 5 || undefined, { withinMs: 15_000 });
    expect([most, order]).toEqual([1, ['0', '1', '2', '3', '4']]);
  });

  it('skips the fires that are due while a run has not ended, where the job says so', async () => {
    const one = scheduler();
    let runs = 0;
    one.job('skipping', { trigger: every('1s'), overlap: 'skip' }, async () => {
      runs++;
      await new Promise((resolve) => setTimeout(resolve, 2_300));
    });
    await started(one);
    await until(
      async () => (runs >= 2 && (await runsOf('skipping')).filter(({ status }) => status === 'SKIPPED').length >= 2) || undefined,
      {
        withinMs: 20_000,
      },
    );
    const skipped = (await runsOf('skipping')).find(({ status }) => status === 'SKIPPED');
    expect(JSON.parse(skipped?.last_error ?? '{}').message).toMatch(/had not ended when this one was due/);
  });

  it('runs a fixed delay again after the end of the run, however it ended', async () => {
    const one = scheduler();
    const starts: number[] = [];
    const ends: number[] = [];
    one.job('delayed', { trigger: delay('1s') }, async () => {
      starts.push(performance.now());
      await new Promise((resolve) => setTimeout(resolve, 200));
      ends.push(performance.now());
      if (starts.length === 1) throw new Error('the first one fails');
    });
    await started(one);
    await until(() => starts.length >= 3 || undefined, { withinMs: 20_000 });
    for (let i = 1; i < 3; i++) expect((starts[i] ?? 0) - (ends[i - 1] ?? 0)).toBeGreaterThanOrEqual(999);
    expect((await runsOf('delayed'))[0]?.status).toBe('FAILED');
  });

  it('finds a fixed delay that has neither a next fire nor a live run', async () => {
    const app = 'stuck';
    const one = scheduler(app);
    const job = await one.jobs.save({ key: 'stuck', trigger: delay('10s') });
    const { database } = registry(app);
    expect(await repairDelays(database)).toBe(0);
    await planJobs(database, 10_000);
    expect(await repairDelays(database)).toBe(0);
    await db.knex('scheduler_run').where({ job_id: job.id }).delete();
    expect(await repairDelays(database)).toBe(1);
    expect((await one.jobs.get('stuck'))?.nextAt).toBeGreaterThan(await database.now());
  });

  it('says what was missed while no process planned, and runs the last of it', async () => {
    const app = 'missed';
    const one = scheduler(app);
    const job = await one.jobs.save({ key: 'hourly', trigger: cron('@hourly'), overlap: 'allow' });
    const { database } = registry(app);
    const now = await database.now();
    const hour = Math.floor(now / 3_600_000) * 3_600_000;
    await db
      .knex('scheduler_job')
      .where({ id: job.id })
      .update({ next_at: hour - 5 * 3_600_000 });
    // The fire of the present hour is missed, too, unless it was within the last minute.
    const planned = await planJobs(database, 10_000);
    const rows = await runsOf('hourly');
    const skipped = rows.filter(({ status }) => status === 'SKIPPED');
    expect(planned.skipped).toBe(1);
    expect(skipped).toHaveLength(1);
    expect(JSON.parse(skipped[0]?.last_error ?? '{}').message).toMatch(/^\d fires from .* were missed: no process planned them in time\.$/);
    expect(
      rows.filter(({ status, fire_at }) => status === 'SCHEDULED' && fire_at !== null && fire_at <= hour).length,
    ).toBeGreaterThanOrEqual(1);
    expect((await one.jobs.get('hourly'))?.nextAt).toBeGreaterThan(now);
  });

  it('plans anew when a job is saved with another definition, and changes nothing when it is the same', async () => {
    const app = 'changed';
    const one = scheduler(app);
    const made = await one.jobs.save({ key: 'report', trigger: every('1s') });
    const { database } = registry(app);
    await planJobs(database, 8_000);
    expect((await runsOf('report')).length).toBeGreaterThanOrEqual(7);
    expect(await one.jobs.save({ key: 'report', trigger: every('1s') })).toMatchObject({ id: made.id, version: 1 });
    const before = (await runsOf('report')).length;
    expect(before).toBeGreaterThanOrEqual(7);
    const changed = await one.jobs.save({ key: 'report', trigger: every('1h') });
    expect(changed).toMatchObject({ id: made.id, version: 2 });
    expect((await runsOf('report')).filter(({ fire_at }) => (fire_at ?? 0) > (changed.nextAt ?? 0)).length).toBe(0);
    expect((await runsOf('report')).length).toBeLessThan(before);
    const off = await one.jobs.save({ key: 'report', trigger: every('1s'), enabled: false });
    expect([off.version, off.nextAt]).toEqual([3, undefined]);
    expect(await planJobs(database, 60_000)).toMatchObject({ jobs: 0 });
    expect((await one.jobs.save({ key: 'report', trigger: every('1s'), enabled: true })).nextAt).toBeDefined();
  });

  it('starts a run by hand once for a runKey', async () => {
    const one = scheduler();
    const got: unknown[] = [];
    one.job<{ day?: string }>('by-hand', { trigger: api(), params: { day: 'today' } }, (params) => void got.push(params));
    await started(one);
    const first = await one.jobs.trigger('by-hand', { runKey: 'k', params: { day: 'monday' } });
    expect(await one.jobs.trigger('by-hand', { runKey: 'k' })).toEqual({ id: first.id, duplicate: true });
    await one.jobs.trigger('by-hand');
    await until(() => got.length === 2 || undefined, { withinMs: 15_000 });
    expect(got).toEqual([{ day: 'monday' }, { day: 'today' }]);
    await expect(one.jobs.trigger('nothing')).rejects.toMatchObject({ code: 'job-not-found' });
  });

  it('tries again as the job says, ends what is too long, and commits effects with the end', async () => {
    const one = scheduler();
    await db.knex.schema.dropTableIfExists('effects');
    await db.knex.schema.createTable('effects', (t) => void t.integer('attempt').primary());
    one.job('flaky', { trigger: api(), retry: { attempts: 3, first: 10 } }, async (_, run) => {
      if (run.attempt < 3) throw new Error(`attempt ${run.attempt}`);
      await run.commit((trx) => trx('effects').insert({ attempt: run.attempt }), { result: { attempts: run.attempt } });
    });
    one.job(
      'endless',
      { trigger: api(), timeout: 100 },
      (_, run) => new Promise((_resolve, reject) => run.signal.addEventListener('abort', () => reject(run.signal.reason))),
    );
    one.job('odd', { trigger: api() }, () => ({ big: 1n }));
    await started(one);
    for (const key of ['flaky', 'endless', 'odd']) await one.jobs.trigger(key);
    const ended = async (key: string): Promise<Run | undefined> => {
      const [run] = await runsOf(key);
      return run && ['SUCCEEDED', 'FAILED'].includes(run.status) ? run : undefined;
    };
    expect(JSON.parse((await until(() => ended('flaky'), { withinMs: 15_000 })).run_result ?? '')).toEqual({ attempts: 3 });
    expect(await db.knex('effects')).toEqual([{ attempt: 3 }]);
    expect(JSON.parse((await until(() => ended('endless'), { withinMs: 15_000 })).last_error ?? '').code).toBe('run-timeout');
    expect(JSON.parse((await until(() => ended('odd'), { withinMs: 15_000 })).last_error ?? '').code).toBe('invalid-run-result');
  });

  it('deletes runs that ended long ago, with their attempts, and no others', async () => {
    const app = 'old';
    const one = scheduler(app);
    one.job('old', { trigger: api(), retry: { attempts: 2, first: 1 } }, ({ fail }: { fail?: boolean }) => {
      if (fail) throw new Error('it fails');
    });
    await started(one);
    for (const params of [{}, { fail: true }]) await one.jobs.trigger('old', { params });
    await until(
      async () => (await runsOf('old')).filter(({ status }) => ['SUCCEEDED', 'FAILED'].includes(status)).length === 2 || undefined,
      {
        withinMs: 15_000,
      },
    );
    const job = await one.jobs.get('old');
    const { database, table, orphans } = registry(app);
    if (!job) throw new Error('the job is gone');
    await database.transaction((sql) => insertRun(database, sql, job, { params: {}, skipped: 'for the test' }));
    const keep = { succeededMs: 86_400_000, othersMs: 10 * 86_400_000 };
    expect(await purgeRuns(table, ['old'], keep)).toBe(0);
    database.clockOffsetMs = 2 * 86_400_000;
    expect(await purgeRuns(table, ['old'], keep)).toBe(1);
    database.clockOffsetMs = 11 * 86_400_000;
    expect(await purgeRuns(table, ['old'], keep)).toBe(2);
    await orphans.sweep();
    expect(await runsOf('old')).toEqual([]);
    expect(await db.knex('scheduler_attempt').whereNotIn('task_id', db.knex('scheduler_run').select('id'))).toEqual([]);
  });

  it('refuses odd jobs with a sentence', async () => {
    const one = scheduler();
    const save = (options: object): Promise<unknown> => one.jobs.save({ key: 'x', trigger: api(), ...options } as never);
    await expect(save({ key: '' })).rejects.toThrow(/key/);
    await expect(save({ trigger: '0 0 * * *' })).rejects.toThrow(/make it with cron\(\), every\(\)/);
    await expect(save({ overlap: 'never' })).rejects.toThrow(/use one of 'queue', 'skip', 'allow'/);
    await expect(save({ retry: { attempts: 1.5 } })).rejects.toThrow(/retry.attempts/);
    await expect(save({ params: { big: 1n } })).rejects.toThrow(/params/);
    await expect(save({ nonsense: 1 })).rejects.toThrow(/nonsense/);
    expect(() => createScheduler({ knex: db.knex } as never)).toThrow(/app/);
  });
});
