import { coreSchema, migrate, silentLogger, steps } from '@holdfast/core';
import { recordPlans, type TestDatabase, testDialects, until } from '@holdfast/core/testing';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { bizType, compensateBizSchema, createCompensateBiz } from '../src/index.ts';
import { seedRows } from './seed.ts';
import { any } from './suite-schema.ts';

const dialects = testDialects().filter(({ name }) => name === 'mysql' || name === 'mariadb');
if (dialects.length === 0) it.skip('plans: neither mysql nor mariadb is up', () => undefined);

describe.each(dialects)('the statements of a worker on $name', (dialect) => {
  let db: TestDatabase;
  beforeEach(async () => {
    db = await dialect.create();
    await migrate(db.knex, [coreSchema, compensateBizSchema]);
  });
  afterEach(async () => {
    await db.drop();
  });

  it.each([
    ['every row is READY', "'WAIT_HANDLE'", 'NULL'],
    ['every row is DONE', "'SUCCESS'", 'NULL'],
    ['every row waits', "'SCHEDULED'", '9000000000000'],
  ])('read no table from end to end and sort at most 2,000 rows, with statistics taken when %s', async (_, status, runAt) => {
    // Of a type that nobody here runs, and of many tenants.
    await seedRows(db, 50_000, { biz_type: "'other'", context: "'{}'", status, run_at: runAt });
    const { knex, plans } = recordPlans(db.address);
    const biz = createCompensateBiz({
      knex,
      logger: silentLogger,
      types: {
        echo: bizType(any, { retry: steps('50ms').upTo(3) }),
        serial: bizType(any, { serial: true }),
        capped: bizType(any, { globalConcurrency: 1 }),
        cut: bizType(any),
      },
    });
    const failed = new Set<string>();
    biz.handle('echo', (_context, run) => {
      // One in ten fails once: retried, promoted, and done.
      if (!run.id.endsWith('7') || failed.has(run.id)) return;
      failed.add(run.id);
      throw new Error('again');
    });
    biz.handle('serial', () => undefined);
    biz.handle('capped', () => undefined);
    const worker = biz.worker({ lease: '1s' });
    try {
      await worker.start();
      await biz.now().submitMany(
        'echo',
        Array.from({ length: 300 }, (__, i) => ({ i })),
      );
      for (let i = 0; i < 5; i++) await biz.now().submit('serial', { i }, { bizId: 'one' });
      await biz.now().submitMany(
        'capped',
        Array.from({ length: 5 }, (__, i) => ({ i })),
      );
      const done = async () =>
        Number((await db.knex('compensate_biz').where({ status: 'SUCCESS' }).whereNot({ biz_type: 'other' }).count({ n: '*' }))[0]?.n);
      await until(async () => (await done()) === 310);
      // Taken back from a worker that is gone.
      await biz.now().submit('echo', {});
      await until(async () => (await done()) === 311);
      await db.knex('compensate_biz').where({ biz_type: 'echo' }).limit(1).update({ status: 'PROCESSING', lease_until: 1, owner: 'gone' });
      await until(async () => (await db.knex('compensate_biz').where({ status: 'PROCESSING' })).length === 0);
      // Cancelled in two chunks.
      const { parentId } = await biz.fanOut(
        'cut',
        Array.from({ length: 1_500 }, (__, i) => ({ i })),
        { key: 'cut' },
      );
      await knex.transaction((trx) => biz.in(trx).cancel({ id: parentId }));
      await until(async () => (await db.knex('compensate_biz').where({ biz_type: 'cut', status: 'WAIT_HANDLE' })).length === 0);
    } finally {
      await worker.stop();
      await biz.close();
      await knex.destroy();
    }
    const all = await plans('compensate_biz');
    expect(all.length).toBeGreaterThan(12);
    const bad = all.filter(({ walked, sorted, rows }) => walked.includes('compensate_biz') || (sorted.length > 0 && rows > 2_000));
    expect(bad).toEqual([]);
  });
});
