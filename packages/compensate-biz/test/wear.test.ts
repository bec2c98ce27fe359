import { every, LeaseTable, silentLogger, wait } from '@holdfast/core';
import { recordPlans, recordStatements, tablesRead, until } from '@holdfast/core/testing';
import { expect, it } from 'vitest';
import { bizType, createCompensateBiz } from '../src/index.ts';
import { seedRows } from './seed.ts';
import { onEveryDatabase } from './suite.ts';
import { any } from './suite-schema.ts';

const day = 86_400_000;

onEveryDatabase('after a day', (suite) => {
  const count = async (table: string, where: Record<string, unknown> = {}): Promise<number> =>
    Number((await suite.db.knex(table).where(where).count({ n: '*' }))[0]?.n);

  it('has deleted what ended, with its attempts, counts and gates, and kept what waits or was to be kept', async () => {
    const warned: object[] = [];
    const biz = suite.create(
      {
        flash: bizType(any, { keep: 'none', retry: every(1).upTo(9) }),
        batched: bizType(any, { keep: 'none', retry: every(1).upTo(9) }),
        brief: bizType(any, { keep: '1h' }),
        doomed: bizType(any, { keepFailed: '12h', retry: every(1).upTo(1) }),
        kept: bizType(any, { keep: 'all', keepFailed: 'all' }),
        queued: bizType(any, { keep: '1h', serial: true }),
        child: bizType(any, { keep: 'none' }),
      },
      { logger: { ...silentLogger, warn: (fields, message) => void (/keepFailed/.test(message) && warned.push(fields)) } },
    );
    const again = new Set<string>();
    const once = (id: string): void => {
      if (again.has(id)) return;
      again.add(id);
      throw new Error('again');
    };
    biz.handle('flash', ({ i }, run) => {
      once(run.id);
      return i === 0 ? run.commit(async () => undefined) : undefined;
    });
    biz.handleBatch('batched', { size: 5 }, async (items, batch) => {
      for (const { id } of items) once(id);
      await batch.commit(async () => undefined);
    });
    biz.handle('brief', () => undefined);
    biz.handle('doomed', () => Promise.reject(new Error('no')));
    biz.handle('kept', ({ i }, run) => (i === 0 ? run.reject('no') : undefined));
    biz.handle('queued', () => undefined);
    biz.handle('child', () => undefined);
    const many = (n: number) => Array.from({ length: n }, (_, i) => ({ i }));
    for (const type of ['flash', 'batched', 'brief', 'doomed', 'kept'] as const) await biz.now().submitMany(type, many(3));
    await biz.now().submitMany('queued', many(40), ({ i }) => ({ bizId: `key-${Number(i) % 20}` }));
    await biz.now().submit('queued', {}, { bizId: 'key-later', delay: '10d' });
    const { id } = await biz.now().submit('doomed', {}, { delay: '10d' });
    await suite.db.knex.transaction((trx) => biz.in(trx).cancel({ id }));
    await biz.fanOut('child', many(30), { key: 'day' });
    await using worker = biz.worker();
    await worker.start();
    const open = () => suite.db.knex('compensate_biz').whereNotIn('status', ['SUCCESS', 'FAILED', 'CANCELLED']);
    await until(async () => (await open()).length === 1);
    await worker.stop();
    expect([await count('compensate_biz', { biz_type: 'flash' }), await count('compensate_biz', { biz_type: 'batched' })]).toEqual([0, 0]);
    // One of each doomed row and of the rejected one: those of rows that were deleted as they succeeded are gone with them.
    expect(await count('compensate_biz_attempt')).toBe(4);
    expect(await count('compensate_biz_fan_out_count')).toBe(0);
    // What older code, people and other processes leave behind.
    await suite.db.knex('compensate_biz_attempt').insert({ task_id: 9_000_001, number: 1, outcome: 'retry', ended_at: 1 });
    await suite.db.knex('compensate_biz_fan_out_count').insert({ parent_id: 9_000_002, worker: 'w', done: 1, failed: 0, cancelled: 0 });
    const leases = new LeaseTable(biz.database);
    await leases.heartbeat('a scan that never runs again', 'gone', 1_000);

    expect(await biz.sweep()).toMatchObject({ purged: 0, purgedFailed: 0 });
    expect([await count('holdfast_gate'), await count('compensate_biz_attempt'), await count('compensate_biz_fan_out_count')]).toEqual([
      1, 4, 0,
    ]);
    biz.database.clockOffsetMs = day;
    try {
      expect(await biz.sweep()).toMatchObject({ purged: 3 + 40, purgedFailed: 4 });
      expect(await count('holdfast_member')).toBe(0);
    } finally {
      biz.database.clockOffsetMs = 0;
    }
    expect(warned).toEqual([{ type: 'doomed', failed: 3, cancelled: 1 }]);
    const left = await suite.db.knex('compensate_biz').orderBy('id').select('biz_type', 'status');
    expect(left.map(({ biz_type, status }) => `${biz_type} ${status}`)).toEqual([
      'kept FAILED',
      'kept SUCCESS',
      'kept SUCCESS',
      'queued SCHEDULED',
      'fan-out SUCCESS',
    ]);
    expect(await count('compensate_biz_attempt')).toBe(1);
    // The row of a fan-out goes after 30 days; its key still returns its result.
    biz.database.clockOffsetMs = 31 * day;
    try {
      expect((await biz.sweep()).purged).toBe(1);
    } finally {
      biz.database.clockOffsetMs = 0;
    }
    expect((await biz.fanOut('child', many(30), { key: 'day' })).total).toBe(30);
  });

  it('deletes old rows behind any number of younger ones', async () => {
    const type = bizType(any, { keep: '1h', keepFailed: '1h' });
    const biz = suite.create({ young: type, old: type });
    // Delayed or redriven, and so younger than rows with higher ids.
    for (const [biz_type, status] of [
      ['young', 'SUCCESS'],
      ['young', 'FAILED'],
    ])
      await seedRows(suite.db, 1_500, { biz_type: `'${biz_type}'`, context: "'{}'", status: `'${status}'` });
    const before = { sqlite: "'2020-01-01 00:00:00.000'", postgres: "'2020-01-01'", mysql: "'2020-01-01'", mariadb: "'2020-01-01'" };
    const old = before[suite.db.name];
    for (const [biz_type, status] of [
      ['young', 'SUCCESS'],
      ['young', 'FAILED'],
      ['old', 'CANCELLED'],
    ])
      await seedRows(suite.db, 2_500, { biz_type: `'${biz_type}'`, context: "'{}'", status: `'${status}'`, updated_at: old });
    expect(await biz.sweep()).toMatchObject({ purged: 2_500, purgedFailed: 5_000 });
    expect([await count('compensate_biz', { biz_type: 'young' }), await count('compensate_biz', { biz_type: 'old' })]).toEqual([3_000, 0]);
    await suite.db.knex('compensate_biz').where({ biz_type: 'young' }).delete();
  });

  it('counts rows by type and status up to a bound, and says where it stopped', async () => {
    const biz = suite.create({ counted: bizType(any) });
    await suite.db.knex('compensate_biz').delete();
    await seedRows(suite.db, 10_050, { biz_type: "'counted'", context: "'{}'", status: "'SUCCESS'" });
    for (const status of ['SUCCESS', 'FAILED', 'CANCELLED', 'WAIT_HANDLE', 'SCHEDULED', 'BLOCKED', 'PROCESSING'])
      await seedRows(suite.db, 2, { biz_type: "'few'", context: "'{}'", status: `'${status}'` });
    await suite.db.knex('compensate_biz').where({ biz_type: 'few', status: 'WAIT_HANDLE' }).limit(1).update({ lost: 1 });
    expect(await biz.inspect().stats()).toEqual([
      { type: 'counted', status: 'SUCCESS', count: 10_000, atLeast: 1 },
      ...['BLOCKED', 'CANCELLED', 'FAILED', 'PROCESSING', 'SCHEDULED', 'SUCCESS', 'WAIT_HANDLE'].map((status) => ({
        type: 'few',
        status,
        count: 2,
      })),
    ]);
  });
});

onEveryDatabase(
  'retention and figures',
  (suite) => {
    it('read no table from end to end, with statistics taken when every row has ended', async () => {
      await seedRows(suite.db, 60_000, { biz_type: "'other'", context: "'{}'", status: "'SUCCESS'" });
      await seedRows(suite.db, 3, { biz_type: "'mine'", context: "'{}'", status: "'FAILED'" });
      if (suite.db.name === 'postgres') await suite.db.knex.raw('ANALYZE compensate_biz');
      const types = { mine: bizType(any, { serial: true }), other: bizType(any) };
      const run = async (knex: typeof suite.db.knex): Promise<void> => {
        const biz = createCompensateBiz({ knex, types, logger: silentLogger });
        await biz.sweep();
        await biz.inspect().stats();
        await biz.close();
      };
      if (suite.db.name === 'postgres') {
        const { knex, take } = recordStatements(suite.db.address);
        await run(knex);
        const asked = take().filter(({ sql }) => /compensate_biz\b/.test(sql) && /^\s*(SELECT|UPDATE|DELETE|WITH)/.test(sql));
        expect(asked.length).toBeGreaterThan(12);
        for (const statement of asked)
          expect([statement.sql, await tablesRead(suite.db.knex, statement)]).not.toEqual([
            statement.sql,
            expect.arrayContaining(['compensate_biz']),
          ]);
        await knex.destroy();
      } else {
        const { knex, plans } = recordPlans(suite.db.address);
        await run(knex);
        const all = await plans('compensate_biz');
        expect(all.length).toBeGreaterThan(8);
        expect(all.filter(({ walked }) => walked.includes('compensate_biz'))).toEqual([]);
        await knex.destroy();
      }
    });
  },
  ['postgres', 'mysql', 'mariadb'],
);

onEveryDatabase(
  'an idle worker',
  (suite) => {
    it('sends a few statements a second, however many serial keys and slots are taken', async () => {
      await seedRows(suite.db, 5_000, { biz_type: "'queued'", context: "'{}'", status: "'SCHEDULED'", run_at: '9000000000000' });
      await suite.db.knex.raw("UPDATE compensate_biz SET gate = 'key-' || id");
      await suite.db.knex.raw(
        "INSERT INTO holdfast_gate (scope, gate_key, head) SELECT 'compensate-biz:queued', gate, id FROM compensate_biz",
      );
      const { knex, take } = recordStatements(suite.db.address);
      let swept = false;
      const biz = createCompensateBiz({
        knex,
        logger: { ...silentLogger, info: (_fields, message) => void (swept ||= message === 'sweep ends') },
        types: { queued: bizType(any, { serial: true }), capped: bizType(any, { globalConcurrency: 100, concurrency: 100 }) },
      });
      biz.handle('queued', () => undefined);
      let running = 0;
      biz.handle('capped', (_context, run) => {
        running += 1;
        return new Promise((resolve) => run.signal.addEventListener('abort', resolve));
      });
      const worker = biz.worker({ stopTimeout: 1 });
      await worker.start();
      await biz.now().submitMany(
        'capped',
        Array.from({ length: 100 }, () => ({})),
      );
      await until(() => running === 100 && swept);
      take();
      const seconds = 4;
      await wait(seconds * 1_000);
      const times = new Map<string, number>();
      for (const { sql } of take()) times.set(sql.slice(0, 120), (times.get(sql.slice(0, 120)) ?? 0) + 1);
      const most = [...times].sort(([, a], [, b]) => b - a);
      // Per second: two polls, two for leases, one for pauses, one for each serial kind and two for each capped one.
      expect(most.reduce((sum, [, n]) => sum + n, 0) / seconds, JSON.stringify(most.slice(0, 5))).toBeLessThan(10);
      // A key whose row has gone is still found, wherever it stands among the others.
      await suite.db.knex.raw("UPDATE compensate_biz SET status = 'FAILED' WHERE gate = (SELECT max(gate) FROM compensate_biz)");
      await until(async () => Number((await suite.db.knex('holdfast_gate').whereNull('head').count({ n: '*' }))[0]?.n) === 1);
      await worker.stop();
      await biz.close();
      await knex.destroy();
    });
  },
  ['postgres'],
);
