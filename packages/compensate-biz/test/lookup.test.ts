import { coreSchema, migrate, silentLogger } from '@holdfast/core';
import { type TestDatabase, testDialects } from '@holdfast/core/testing';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bizType, type CompensateBiz, compensateBizSchema, createCompensateBiz } from '../src/index.ts';
import { planOf } from './plan-of.ts';
import { seedRows } from './seed.ts';
import { any } from './suite-schema.ts';

const types = { grant: bizType(any), push: bizType(any) };

describe.each(testDialects())('rows are found on $name', (dialect) => {
  let db: TestDatabase;
  let biz: CompensateBiz<typeof types>;
  beforeAll(async () => {
    db = await dialect.create();
    await migrate(db.knex, [coreSchema, compensateBizSchema]);
    biz = createCompensateBiz({ knex: db.knex, types, logger: silentLogger });
    // Many rows of nobody, so that a plan that walks the table is seen.
    await seedRows(db, 30_000, { biz_type: "'other'", context: "'{}'", status: "'SUCCESS'", subject: 'NULL' });
    for (let i = 0; i < 5; i++) {
      await biz.now().submit('grant', { i }, { bizId: 'member-7', subject: 'order-1', tenant: 'acme' });
      await biz.now().submit('push', { i }, { bizId: 42, subject: `order-${i + 1}`, ...(i < 2 ? { tenant: 'beta' } : {}) });
    }
    await biz.now().submit('grant', {}, { bizId: 'other', subject: "it's ? {now}", tenant: 'TENANT', delay: '1h' });
    if (db.name === 'postgres') await db.knex.raw('ANALYZE compensate_biz');
    else if (db.name === 'sqlite') await db.knex.raw('ANALYZE');
    else await db.knex.raw('ANALYZE TABLE compensate_biz');
  });
  afterAll(async () => {
    await biz.close();
    await db.drop();
  });

  it.each([
    [{ bizId: 'member-7' }, 5],
    [{ bizId: 42 }, 5],
    [{ bizId: 42n, type: 'push' }, 5],
    [{ bizId: '42', type: 'grant' }, 0],
    [{ bizId: 'nobody' }, 0],
    [{ bizId: 'MEMBER-7' }, 0],
    [{ subject: 'order-1' }, 6],
    [{ subject: 'order-1', type: 'push' }, 1],
    [{ subject: "it's ? {now}" }, 1],
    [{ subject: "it's ? {now}", status: 'WAIT_HANDLE' }, 0],
    [{ subject: "it's ? {now}", status: 'SCHEDULED' }, 1],
    [{ tenant: 'acme' }, 5],
    [{ tenant: 'acme', bizId: 'member-7', subject: 'order-1', type: 'grant', status: 'WAIT_HANDLE' }, 5],
    [{ tenant: 'beta' }, 2],
    [{ tenant: '', type: 'push' }, 3],
    [{ type: 'grant' }, 6],
    [{ limit: 3 }, 3],
  ] as const)('by %o', async (query, count) => {
    expect(await biz.find(query)).toHaveLength(count);
  });

  it('with everything that there is to know of them, and no column that is not asked for', async () => {
    const [task] = await biz.find({ bizId: 'other' });
    expect(task).toEqual({
      id: expect.stringMatching(/^\d+$/),
      type: 'grant',
      bizId: 'other',
      status: 'SCHEDULED',
      failedAttempts: 0,
      starts: 0,
      priority: 0,
      tenant: 'TENANT',
      subject: "it's ? {now}",
      progress: undefined,
      result: undefined,
      error: undefined,
      deadReason: undefined,
      runAt: expect.any(Number),
      updatedAt: expect.any(Number),
    });
    const now = await biz.database.now();
    expect(Math.abs((task?.runAt ?? 0) - now - 3_600_000)).toBeLessThan(60_000);
    expect(Math.abs((task?.updatedAt ?? 0) - now)).toBeLessThan(60_000);
    expect(await biz.get(task?.id ?? '')).toEqual({ ...task, context: {}, attempts: [] });
    expect(await biz.get('99999999')).toBeUndefined();
  });

  it('page by page in id order, each row once', async () => {
    const ids: string[] = [];
    for (let after: string | undefined; ; ) {
      const page = await biz.find({ subject: 'order-1', limit: 2, ...(after === undefined ? {} : { after }) });
      ids.push(...page.map(({ id }) => id));
      if (page.length < 2) break;
      after = page.at(-1)?.id;
    }
    expect(ids).toEqual((await biz.find({ subject: 'order-1' })).map(({ id }) => id));
    expect(ids).toEqual(ids.toSorted((a, b) => Number(a) - Number(b)));
    expect(new Set(ids).size).toBe(6);
  });

  it('by the same filters in an operator\u2019s list', async () => {
    const inspection = biz.inspect();
    expect(await inspection.list({ kind: 'push', key: '42', subject: 'order-2', tenant: 'beta', status: 'WAIT_HANDLE' })).toMatchObject([
      { biz_type: 'push', biz_id: '42', subject: 'order-2', tenant: 'beta' },
    ]);
    await expect(inspection.list({ reason: 'rejected' } as never)).rejects.toThrow(
      /compensate-biz has no filter reason; it has status, kind/,
    );
  });

  it.each([
    [{ bizId: '' }, /bizId is ""/],
    [{ bizId: 'x'.repeat(192) }, /bizId is "x+.*1 to 191 characters/],
    [{ subject: 'a\0b' }, /subject holds a NUL/],
    [{ tenant: 'x'.repeat(101) }, /tenant is/],
    [{ after: 'abc' }, /after is "abc"/],
    [{ limit: 1_001 }, /limit is 1001/],
    [{ status: 'LOST' }, /status is "LOST"; give one of WAIT_HANDLE/],
  ])('and %o is refused', async (query, message) => {
    await expect(biz.find(query as never)).rejects.toThrow(message);
  });

  it.each([
    ['bizId', { bizId: 'member-7' }, 'compensate_biz_biz_id'],
    ['bizId, type and status', { bizId: 'member-7', type: 'grant', status: 'WAIT_HANDLE' }, 'compensate_biz_biz_id'],
    ['subject', { subject: 'order-1' }, 'compensate_biz_subject'],
    ['tenant', { tenant: 'acme' }, 'compensate_biz_tenant'],
    ['tenant and a later page', { tenant: 'acme', after: '10' }, 'compensate_biz_tenant'],
  ] as const)('by %s through its index', async (_, query, index) => {
    const plan = await planOf(db, 'updated_ms', () => biz.find(query));
    expect(plan).toContain(index);
  });
});

const before = { ...compensateBizSchema, migrations: compensateBizSchema.migrations.filter(({ name }) => name < '0003_lookup') };

describe.each(testDialects())('a table of the version before on $name', (dialect) => {
  it('gets the indexes and columns while rows are inserted, and once', async () => {
    const db = await dialect.create();
    try {
      await migrate(db.knex, [coreSchema, before]);
      await seedRows(db, 2_000, { biz_type: "'grant'", biz_id: "'b'", context: "'{}'", status: "'WAIT_HANDLE'" });
      const old = db.connect();
      let stop = false;
      const inserting = (async () => {
        let n = 0;
        for (; !stop; n++) await old('compensate_biz').insert({ biz_type: 'grant', biz_id: 'b', context: '{}' });
        return n;
      })();
      const migrated = await migrate(db.knex, [coreSchema, compensateBizSchema]).finally(() => {
        stop = true;
      });
      const inserted = await inserting;
      expect(migrated['compensate-biz']).toEqual(['0003_lookup', '0004_result', '0005_due_and_ended', '0006_cancel']);
      expect((await migrate(db.knex, [coreSchema, compensateBizSchema]))['compensate-biz']).toEqual([]);
      await using biz = createCompensateBiz({ knex: db.knex, types, logger: silentLogger });
      expect(await biz.find({ bizId: 'b', limit: 1_000 })).toHaveLength(1_000);
      expect(Number((await db.knex('compensate_biz').count({ n: '*' }))[0]?.n)).toBe(2_000 + inserted);
    } finally {
      await db.drop();
    }
  });

  it('gets them, too, where its business ids are long texts', async () => {
    const db = await dialect.create();
    try {
      await migrate(db.knex, [coreSchema, before]);
      if (db.name === 'postgres') await db.knex.raw('ALTER TABLE compensate_biz ALTER COLUMN biz_id TYPE TEXT');
      else if (db.name !== 'sqlite')
        await db.knex.raw('ALTER TABLE compensate_biz MODIFY biz_id LONGTEXT NULL, MODIFY subject VARCHAR(2000) NULL');
      await migrate(db.knex, [coreSchema, compensateBizSchema]);
      await using biz = createCompensateBiz({ knex: db.knex, types, logger: silentLogger });
      const { id } = await biz.now().submit('grant', {}, { bizId: 'b', subject: 's' });
      expect(await biz.find({ bizId: 'b', subject: 's' })).toMatchObject([{ id }]);
    } finally {
      await db.drop();
    }
  });
});
