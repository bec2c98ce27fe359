import { coreSchema, migrate } from '@holdfast/core';
import { type TestDatabase, testDialects, watchfulLogger } from '@holdfast/core/testing';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type BizTypes, type CompensateBiz, type CompensateBizOptions, compensateBizSchema, createCompensateBiz } from '../src/index.ts';

/** The database of the running suite. */
export interface Suite {
  readonly db: TestDatabase;
  create<Types extends BizTypes>(types: Types, options?: Partial<CompensateBizOptions<Types>>): CompensateBiz<Types>;
}

/** Runs the same tests on every database that is up, each in a database of its own. */
export function onEveryDatabase(name: string, tests: (suite: Suite) => void, only?: readonly string[]): void {
  const dialects = testDialects().filter((dialect) => !only || only.includes(dialect.name));
  if (dialects.length === 0) {
    it.skip(`${name}: none of ${only?.join(', ')} is up`, () => undefined);
    return;
  }
  describe.each(dialects)(`${name} on $name`, (dialect) => {
    let db: TestDatabase | undefined;
    const logger = watchfulLogger();
    const opened: CompensateBiz<BizTypes>[] = [];
    beforeAll(async () => {
      db = await dialect.create();
      await migrate(db.knex, [coreSchema, compensateBizSchema]);
    });
    afterAll(async () => {
      for (const biz of opened) await biz.close();
      await db?.drop();
      expect(logger.refusals, 'statements that the database refused').toEqual([]);
    });
    tests({
      get db() {
        if (!db) throw new Error('the database is made in beforeAll');
        return db;
      },
      create(types, options = {}) {
        if (!db) throw new Error('the database is made in beforeAll');
        const biz = createCompensateBiz({ knex: db.knex, types, logger, ...options });
        opened.push(biz as unknown as CompensateBiz<BizTypes>);
        return biz;
      },
    });
  });
}
