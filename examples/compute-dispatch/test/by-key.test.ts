import { type TestDatabase, testDialects } from '@holdfast/core/testing';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { byKey, locked, transact } from '../src/transact.ts';

// SQLite has one writer.
describe.each(testDialects().filter(({ name }) => name !== 'sqlite'))('rows by their keys on $name', (dialect) => {
  let db: TestDatabase;
  beforeAll(async () => {
    db = await dialect.create();
    await db.knex.schema.createTable('small', (t) => {
      t.string('id', 20).primary();
      t.integer('n').notNullable().defaultTo(0);
    });
    await db.knex('small').insert(Array.from({ length: 20 }, (_, i) => ({ id: `row-${String(i).padStart(2, '0')}` })));
    if (dialect.name !== 'postgres') await db.knex.raw('ANALYZE TABLE small');
  });
  afterAll(async () => {
    await db.drop();
  });

  it('are changed and locked without a wait for other rows of the table', async () => {
    const ids = Array.from({ length: 20 }, (_, i) => `row-${String(i).padStart(2, '0')}`);
    const [held, others] = [ids.filter((_, i) => i % 4 === 0), ids.filter((_, i) => i % 4 !== 0)];
    await transact(db.knex, async (first) => {
      expect(await locked(first, byKey(first, 'small').whereIn('id', held).orderBy('id'))).toHaveLength(5);
      await transact(db.knex, async (second) => {
        if (dialect.name !== 'postgres') await second.raw('SET SESSION innodb_lock_wait_timeout = 1');
        else await second.raw("SET LOCAL lock_timeout = '1s'");
        expect(await byKey(second, 'small').whereIn('id', others).update({ n: 1 })).toBe(15);
        expect(await locked(second, byKey(second, 'small').whereIn('id', others).orderBy('id'))).toHaveLength(15);
      });
    });
    expect(Number((await db.knex('small').sum({ n: 'n' }))[0]?.n)).toBe(15);
  });
});
