import { coreSchema, migrate } from '@holdfast/core';
import { type TestDatabase, testDialects, watchfulLogger } from '@holdfast/core/testing';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createNotifier, type Notifier, type NotifierOptions, notifierSchema, type Trigger } from '../src/index.ts';
import { type Behavior, type HostileReceiver, hostileReceiver } from '../src/testing/index.ts';
import { keys } from './suite-keys.ts';

export interface Suite {
  readonly db: TestDatabase;
  /** A receiver on this machine, closed after the test. */
  receiver(script?: Behavior | readonly Behavior[], host?: string): Promise<HostileReceiver>;
  /** A notifier that may call the receivers made so far. */
  notifier(options?: Partial<NotifierOptions>): Notifier;
  /** Ended after the test, also when it failed. */
  use<T extends { stop(): Promise<void> }>(one: T): T;
}

let events = 0;

/** An event of a subject of its own. */
export function event(url: string, more: Partial<Trigger> = {}): Trigger {
  events += 1;
  return { subjectId: `order-${events}`, status: 'POWER_ON', url, keyRef: 'k', payload: { n: String(events) }, ...more };
}

/** Runs the same tests on every database that is up, each file in a database of its own whose tables are empty at each test. */
export function onEveryDatabase(name: string, tests: (suite: Suite) => void, only?: readonly string[]): void {
  const dialects = testDialects().filter((dialect) => !only || only.includes(dialect.name));
  if (dialects.length === 0) it.skip(`${name}: none of ${only?.join(', ')} is up`, () => undefined);
  describe.each(dialects)(`${name} on $name`, (dialect) => {
    let db: TestDatabase | undefined;
    const logger = watchfulLogger();
    const receivers: HostileReceiver[] = [];
    const notifiers: Notifier[] = [];
    const used: { stop(): Promise<void> }[] = [];
    const there = (): TestDatabase => {
      if (!db) throw new Error('the database is made in beforeAll');
      return db;
    };
    beforeAll(async () => {
      db = await dialect.create();
      await migrate(db.knex, [coreSchema, notifierSchema]);
    });
    beforeEach(async () => {
      for (const table of ['attempt', 'notification', 'wake', 'subscription', 'endpoint']) await there().knex(`notifier_${table}`).delete();
      for (const table of ['holdfast_once', 'holdfast_audit']) await there().knex(table).delete();
    });
    afterEach(async () => {
      for (const one of used.splice(0).reverse()) await one.stop();
      for (const one of notifiers.splice(0)) await one.close();
      for (const one of receivers.splice(0)) await one.close();
    });
    afterAll(async () => {
      await db?.drop();
      expect(logger.refusals, 'statements that the database refused').toEqual([]);
    });
    tests({
      get db() {
        return there();
      },
      async receiver(script, host) {
        const receiver = await hostileReceiver(script, host);
        receivers.push(receiver);
        return receiver;
      },
      notifier(options = {}) {
        const notifier = createNotifier({
          knex: there().knex,
          logger,
          keys: (ref) => keys[ref],
          ...options,
          egress: { allowHttp: true, allowCidrs: ['127.0.0.0/8'], allowPorts: receivers.map(({ port }) => port), ...options.egress },
        });
        notifiers.push(notifier);
        return notifier;
      },
      use: (one) => {
        used.push(one);
        return one;
      },
    });
  });
}
