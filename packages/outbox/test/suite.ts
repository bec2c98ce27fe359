import { coreSchema, migrate } from '@holdfast/core';
import { type TestDatabase, testDialects, watchfulLogger } from '@holdfast/core/testing';
import type { StandardSchemaV1 } from '@standard-schema/spec';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import {
  createInbox,
  createOutbox,
  type Inbox,
  type InboxOptions,
  type Outbox,
  type OutboxOptions,
  outboxSchema,
  type Topics,
  topic,
} from '../src/index.ts';

/** A Standard Schema that checks one thing, so that tests need no schema library. */
export function schemaOf<T>(check: (value: unknown) => string | undefined = () => undefined): StandardSchemaV1<T, T> {
  return {
    '~standard': {
      version: 1,
      vendor: 'test',
      validate: (value) => {
        const issue = check(value);
        return issue === undefined ? { value: value as T } : { issues: [{ message: issue, path: ['field'] }] };
      },
    },
  };
}

export interface Step {
  readonly k: string;
  readonly n: number;
}

/** A topic with a key and one without. */
export const topics = {
  keyed: topic(
    schemaOf<Step>((value) => (typeof (value as Step)?.n === 'number' ? undefined : 'must be a number')),
    { key: ({ k }) => k },
  ),
  free: topic(schemaOf<{ n: number }>()),
};

export interface Suite {
  readonly db: TestDatabase;
  outbox<T extends Topics = typeof topics>(options?: Partial<OutboxOptions<T>>): Outbox<T>;
  inbox(options?: Partial<InboxOptions>): Inbox;
  /** Ended after the test, also when it failed. */
  use<T extends { stop(): Promise<void> } | { close(): Promise<void> }>(one: T): T;
}

/** Runs the same tests on every database that is up, each file in a database of its own whose tables are empty at each test. */
export function onEveryDatabase(name: string, tests: (suite: Suite) => void, only?: readonly string[]): void {
  const dialects = testDialects().filter((dialect) => !only || only.includes(dialect.name));
  if (dialects.length === 0) it.skip(`${name}: none of ${only?.join(', ')} is up`, () => undefined);
  describe.each(dialects)(`${name} on $name`, (dialect) => {
    let db: TestDatabase | undefined;
    const logger = watchfulLogger();
    const opened: { close(): Promise<void> }[] = [];
    const used: ({ stop(): Promise<void> } | { close(): Promise<void> })[] = [];
    const there = (): TestDatabase => {
      if (!db) throw new Error('the database is made in beforeAll');
      return db;
    };
    beforeAll(async () => {
      db = await dialect.create();
      await migrate(db.knex, [coreSchema, outboxSchema]);
    });
    beforeEach(async () => {
      for (const table of ['message', 'parked', 'held', 'delayed', 'dead']) await there().knex(`outbox_${table}`).delete();
      for (const table of ['inbox_message', 'inbox_start', 'inbox_parked', 'holdfast_lease', 'holdfast_member'])
        await there().knex(table).delete();
    });
    afterEach(async () => {
      for (const one of used.splice(0).reverse()) await ('stop' in one ? one.stop() : one.close());
      for (const one of opened.splice(0)) await one.close();
    });
    afterAll(async () => {
      await db?.drop();
      expect(logger.refusals, 'statements that the database refused').toEqual([]);
    });
    tests({
      get db() {
        return there();
      },
      outbox: <T extends Topics = typeof topics>(options: Partial<OutboxOptions<T>> = {}) => {
        const outbox = createOutbox<T>({ knex: there().knex, topics: topics as unknown as T, logger, ...options });
        opened.push(outbox);
        return outbox;
      },
      inbox: (options = {}) => {
        const inbox = createInbox({ knex: there().knex, logger, ...options });
        opened.push(inbox);
        return inbox;
      },
      use: (one) => {
        used.push(one);
        return one;
      },
    });
  });
}
