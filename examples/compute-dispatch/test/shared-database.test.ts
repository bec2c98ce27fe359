import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { memoryBroker } from '@holdfast/broker/memory';
import { bizType, compensateBizSchema, createCompensateBiz } from '@holdfast/compensate-biz';
import { coreSchema, migrate, silentLogger, wait } from '@holdfast/core';
import { recordStatements, type TestDatabase, testDialects, until } from '@holdfast/core/testing';
import { createNotifier, notifierSchema } from '@holdfast/notifier';
import { createOutbox, outboxSchema, topic } from '@holdfast/outbox';
import type { Knex } from 'knex';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';

const schemas = [coreSchema, outboxSchema, compensateBizSchema, notifierSchema];

describe.each(testDialects().filter(({ name }) => name === 'postgres'))('three packages over one knex on $name', (dialect) => {
  let db: TestDatabase;
  beforeAll(async () => {
    db = await dialect.create();
    await migrate(db.knex, schemas);
  });
  afterAll(async () => {
    await db.drop();
  });
  const create = (knex: Knex) => {
    const options = { knex, logger: silentLogger };
    const outbox = createOutbox({ ...options, topics: { news: topic(z.object({ n: z.number() })) }, publisher: memoryBroker() });
    const biz = createCompensateBiz({ ...options, types: { step: bizType(z.object({ n: z.number() })) } });
    biz.handle('step', () => undefined);
    const notifier = createNotifier({ ...options, sign: [] });
    return {
      outbox,
      biz,
      notifier,
      async use() {
        await knex.transaction(async (trx) => {
          await outbox.in(trx).put('news', { n: 1 });
          await biz.in(trx).submit('step', { n: 1 });
          await notifier.in(trx).trigger({ subjectId: `s${Math.random()}`, status: 'ON', url: 'https://example.com/hook', payload: {} });
        });
        await biz.now().submit('step', { n: 2 });
        await biz.now().submitMany('step', [{ n: 3 }, { n: 4 }]);
        await notifier.now().trigger({ subjectId: `s${Math.random()}`, status: 'ON', url: 'https://example.com/hook', payload: {} });
      },
      async close() {
        for (const one of [outbox, biz, notifier]) await one.close();
      },
    };
  };
  /** Connections of the test's processes at the server that are not of the pool of `knex`, and those of them that listen. */
  const ours = async (knex: Knex): Promise<{ readonly pool: number; readonly listening: number }> => {
    const name = new URL(db.address).searchParams.get('schema');
    const { rows } = await db.knex.raw(
      "SELECT count(*) AS n, count(*) FILTER (WHERE query LIKE 'LISTEN%') AS listening FROM pg_stat_activity WHERE application_name = ?",
      [name],
    );
    const known = [knex, db.knex].reduce((sum, { client }) => sum + client.pool.numFree() + client.pool.numUsed(), 0);
    const listening = Number(rows[0].listening);
    return { pool: Number(rows[0].n) - known - listening, listening };
  };

  it('opens no connection in a process that only submits', async () => {
    const knex = db.connect();
    const parts = create(knex);
    await parts.use();
    // A connection of the service that is being opened is not in its pool yet; one of the loops would stay for half a minute.
    await until(async () => (await ours(knex)).pool === 0, { withinMs: 5_000 });
    expect((await ours(knex)).listening).toBe(0);
    await parts.close();
    await knex.destroy();
  });

  it('has one pool of loops and one LISTEN in a process that runs all of them, and is nearly silent when idle', async () => {
    const { knex, take } = recordStatements(db.address);
    const parts = create(knex);
    // Nothing is due while it is counted.
    for (const table of ['outbox_message', 'compensate_biz', 'notifier_wake', 'notifier_notification']) await db.knex(table).delete();
    const services = [parts.outbox.relay(), parts.biz.worker(), parts.notifier.worker()];
    for (const service of services) await service.start();
    await until(async () => (await ours(knex)).listening === 1);
    for (let i = 0; i < 20; i++)
      await parts.biz.now().submitMany(
        'step',
        Array.from({ length: 20 }, (_, n) => ({ n })),
      );
    await until(async () => (await db.knex('compensate_biz').whereNot({ status: 'SUCCESS' })).length === 0);
    const { pool, listening } = await ours(knex);
    expect(listening).toBe(1);
    expect(pool).toBeLessThanOrEqual(4);
    await wait(2_000);
    take();
    await wait(5_000);
    const times = new Map<string, number>();
    for (const { sql } of take()) times.set(sql.slice(0, 120), (times.get(sql.slice(0, 120)) ?? 0) + 1);
    const most = [...times].sort(([, a], [, b]) => b - a);
    expect(most.reduce((sum, [, n]) => sum + n, 0) / 5, JSON.stringify(most.slice(0, 8))).toBeLessThan(40);
    for (const service of services) await service.stop();
    await until(async () => (await ours(knex)).listening === 0);
    await parts.close();
    expect(await ours(knex)).toEqual({ pool: 0, listening: 0 });
    await knex.destroy();
  });
});

describe.each(testDialects())('holdfast redrive over several packages on $name', (dialect) => {
  let db: TestDatabase;
  let folder: string;
  beforeAll(async () => {
    db = await dialect.create();
    await migrate(db.knex, schemas);
    // Inside the package, so that its imports resolve.
    folder = mkdtempSync(join(import.meta.dirname, '.cli-'));
    writeFileSync(
      join(folder, 'holdfast.config.ts'),
      `import { coreSchema, silentLogger } from '@holdfast/core';
import { connectTestDatabase } from '@holdfast/core/testing';
import { bizType, createCompensateBiz } from '@holdfast/compensate-biz';
import { createNotifier } from '@holdfast/notifier';
import { createOutbox, topic } from '@holdfast/outbox';
import { memoryBroker } from '@holdfast/broker/memory';
import { z } from 'zod';
const knex = connectTestDatabase(${JSON.stringify(db.address)});
const options = { knex, logger: silentLogger };
const biz = createCompensateBiz({ ...options, types: { step: bizType(z.object({})), other: bizType(z.object({})) } });
const notifier = createNotifier({ ...options, sign: [] });
const outbox = createOutbox({ ...options, topics: { news: topic(z.object({})) }, publisher: memoryBroker() });
export default {
  knex, schemas: [coreSchema], inspectables: [biz.inspect(), notifier.inspect(), outbox.inspect()],
  close: async () => { await biz.close(); await notifier.close(); await outbox.close(); },
};
`,
    );
    const biz = createCompensateBiz({
      knex: db.knex,
      logger: silentLogger,
      types: { step: bizType(z.object({})), other: bizType(z.object({})) },
    });
    await biz.now().submitMany(
      'step',
      Array.from({ length: 1_003 }, () => ({})),
    );
    await biz.now().submitMany(
      'other',
      Array.from({ length: 7 }, () => ({})),
    );
    await biz.close();
    const notifier = createNotifier({ knex: db.knex, logger: silentLogger, sign: [] });
    for (let i = 0; i < 12; i++)
      await notifier.now().trigger({ subjectId: `s${i}`, status: 'ON', url: 'https://example.com/hook', payload: {} });
    await notifier.close();
  });
  afterAll(async () => {
    rmSync(folder, { recursive: true, force: true });
    await db.drop();
  });
  const run = (...args: string[]) =>
    promisify(execFile)(
      process.execPath,
      [
        '--conditions=@holdfast/source',
        '--disable-warning=ExperimentalWarning',
        join(import.meta.dirname, '../../../packages/core/src/cli/main.ts'),
        'redrive',
        ...args,
      ],
      { cwd: folder },
    ).then(
      ({ stdout }) => ({ code: 0, stdout, stderr: '' }),
      (error: { code: number; stdout: string; stderr: string }) => error,
    );
  const by = ['--actor', 'ann', '--reason', 'mended'];

  it('asks for the package of an id, and redrives in that package only', async () => {
    await db.knex('compensate_biz').update({ status: 'FAILED' });
    await db.knex('notifier_notification').update({ state: 'EXHAUSTED' });
    const [{ id }] = (await db.knex('compensate_biz').orderBy('id').limit(1)) as [{ id: string }];
    for (const more of [by, ['--dry-run']]) {
      const asked = await run(String(id), ...more);
      expect([asked.code, asked.stdout]).toEqual([1, '']);
      expect(asked.stderr).toMatch(/name one package with --package: compensate-biz, notifier, outbox/);
    }
    expect(await db.knex('compensate_biz').whereNot({ status: 'FAILED' })).toEqual([]);
    const done = await run(String(id), String(id), '--package', 'compensate-biz', ...by);
    expect([done.code, done.stdout]).toEqual([0, `compensate-biz ${id}: redriven\ncompensate-biz: 1 of 1 redriven\n`]);
    expect(await db.knex('notifier_notification').whereNot({ state: 'EXHAUSTED' })).toEqual([]);
    const both = await run(String(id), '--status', 'FAILED', '--package', 'compensate-biz', ...by);
    expect([both.code, both.stderr]).toEqual([1, expect.stringMatching(/either ids or --status/)]);
  });

  it('redrives all rows of a status, page after page, in the packages that have it', async () => {
    await db.knex('compensate_biz').update({ status: 'FAILED' });
    const kind = await run('--status', 'FAILED', '--kind', 'other', ...by);
    expect([kind.code, kind.stdout.split('\n').at(-2)]).toEqual([0, 'compensate-biz: 7 of 7 redriven']);
    const failed = await run('--status', 'FAILED', ...by);
    expect([failed.code, failed.stdout.split('\n').at(-2)]).toEqual([0, 'compensate-biz: 1003 of 1003 redriven']);
    const exhausted = await run('--status', 'EXHAUSTED', '--limit', '10', ...by);
    expect([exhausted.code, exhausted.stdout.split('\n').at(-2)]).toEqual([0, 'notifier: 10 of 10 redriven']);
    await db.knex('compensate_biz').update({ status: 'CANCELLED' });
    await db.knex('notifier_notification').update({ state: 'CANCELLED' });
    const cancelled = await run('--status', 'CANCELLED', '--limit', '5', ...by);
    expect(cancelled.stdout.match(/: \d+ of \d+ redriven/g)).toEqual([': 5 of 5 redriven', ': 5 of 5 redriven']);
    const none = await run('--status', 'PENDING', ...by);
    expect([none.code, none.stderr]).toEqual([
      1,
      expect.stringMatching(/No rows with the status PENDING can be redriven; these can: compensate-biz \(FAILED, CANCELLED\), notifier/),
    ]);
  });
});
