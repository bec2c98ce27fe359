import { type TestDatabase, testDialects } from '@holdfast/core/testing';
import { afterAll, beforeAll, describe, it } from 'vitest';
import { coreSchema, Database, migrate } from '../src/index.ts';

export interface CoreSuite {
  /** The name of the database. It is known while tests are declared, so that a test can be declared for some databases only. */
  readonly name: string;
  readonly db: TestDatabase;
  readonly database: Database;
}

/** Runs the tests on every available dialect, each in a database of its own. */
export function onEveryDatabase(name: string, tests: (suite: CoreSuite) => void, only?: readonly string[]): void {
  const dialects = testDialects().filter((dialect) => !only || only.includes(dialect.name));
  if (dialects.length === 0) it.skip(`${name}: none of ${only?.join(', ')} is up`, () => undefined);
  describe.each(dialects)(`${name} on $name`, (dialect) => {
    let db: TestDatabase;
    let database: Database;
    beforeAll(async () => {
      db = await dialect.create();
      await migrate(db.knex, [coreSchema]);
      database = new Database({ knex: db.knex });
      await database.describe();
    });
    afterAll(async () => {
      await database?.close();
      await db?.drop();
    });
    tests({
      name: dialect.name,
      get db() {
        return db;
      },
      get database() {
        return database;
      },
    });
  });
}
