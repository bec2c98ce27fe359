import { silentLogger, steps, wait } from '@holdfast/core';
import { recordPlans, recordStatements, tablesRead, until } from '@holdfast/core/testing';
import { expect, it } from 'vitest';
import { createNotifier } from '../src/index.ts';
import { event, onEveryDatabase } from './suite.ts';
import { keys } from './suite-keys.ts';

const day = 86_400_000;

onEveryDatabase('after some days', (suite) => {
  const count = async (table: string): Promise<number> => Number((await suite.db.knex(table).count({ n: '*' }))[0]?.n);

  it('has deleted what was delivered and, later and with a warning, what was given up', async () => {
    const [good, bad] = [await suite.receiver(), await suite.receiver(500)];
    const warned: object[] = [];
    const notifier = suite.notifier({
      keep: '1h',
      keepFailed: '3d',
      schedule: steps(1),
      logger: { ...silentLogger, warn: (fields, message) => void (/keepFailed/.test(message) && warned.push(fields)) },
    });
    const worker = suite.use(notifier.worker());
    await worker.start();
    for (let i = 0; i < 3; i++) for (const { url } of [good, bad]) await notifier.now().trigger(event(url));
    await until(async () => (await suite.db.knex('notifier_notification').where({ state: 'PENDING' })).length === 0);
    await worker.stop();
    // Rows of notifications, and nudges for endpoints, that were deleted by hand.
    await suite.db
      .knex('notifier_attempt')
      .insert({ notification_id: 9_000_001, number: 1, started_at: 1, trigger_by: 'auto', outcome: 'started' });
    await suite.db.knex('notifier_wake').insert({ endpoint_id: 9_000_002 });
    expect(await notifier.purge()).toBe(0);
    expect([await count('notifier_attempt'), await count('notifier_wake')]).toEqual([3 + 6, 0]);
    notifier.database.clockOffsetMs = day;
    expect([await notifier.purge(), await count('notifier_attempt'), warned]).toEqual([3, 6, []]);
    notifier.database.clockOffsetMs = 4 * day;
    expect([await notifier.purge(), await count('notifier_attempt'), warned]).toEqual([3, 0, [{ failed: 3 }]]);
    const keeping = suite.notifier({ keepFailed: 'all' });
    await suite.db.knex('notifier_notification').delete();
    await keeping.now().trigger(event(bad.url));
    await suite.db.knex('notifier_notification').update({ state: 'GONE', ended_at: 1, due_at: null });
    expect([await keeping.purge(), await count('notifier_notification')]).toEqual([0, 1]);
    notifier.database.clockOffsetMs = 0;
  });
});

onEveryDatabase(
  'the notifier beside many endpoints and ended notifications',
  (suite) => {
    /** 5,000 endpoints, and 20,000 notifications that ended some days ago, too young to be deleted. */
    const seed = async (): Promise<void> => {
      const { knex } = suite.db;
      await knex.batchInsert(
        'notifier_endpoint',
        Array.from({ length: 5_000 }, (_, i) => ({ tenant: '', origin: `https://e${i}.example.com` })),
        1_000,
      );
      const { id } = (await knex('notifier_endpoint').first('id')) as { id: string };
      const at = Date.now() - 5 * day;
      await knex.batchInsert(
        'notifier_notification',
        Array.from({ length: 20_000 }, (_, i) => ({
          endpoint_id: id,
          created_at: at,
          ended_at: at + i,
          state: i % 2 === 0 ? 'DELIVERED' : 'EXHAUSTED',
          tenant: '',
          subject_id: `s${i}`,
          status: 'ON',
          webhook_id: `w${i}`,
          url: 'https://e0.example.com/',
          content_type: 'application/json',
          params: '{}',
        })),
        1_000,
      );
      await knex.raw(suite.db.name === 'postgres' ? 'ANALYZE' : 'ANALYZE TABLE notifier_notification, notifier_endpoint');
    };

    it('deletes by an index, and is nearly silent when there is nothing to do', async () => {
      await seed();
      const postgres = suite.db.name === 'postgres' ? recordStatements(suite.db.address) : undefined;
      const mysql = postgres ? undefined : recordPlans(suite.db.address);
      const knex = postgres?.knex ?? mysql?.knex;
      if (!knex) throw new Error('no recorder');
      const notifier = createNotifier({ knex, logger: silentLogger, keys: (ref) => keys[ref] });
      try {
        expect(await notifier.purge()).toBe(0);
        if (mysql) {
          const plans = await mysql.plans('notifier_notification');
          expect(plans.filter(({ walked }) => walked.includes('notifier_notification'))).toEqual([]);
          return;
        }
        const purged = (postgres?.take() ?? []).filter(({ sql }) => /notifier_notification/.test(sql));
        expect(purged.length).toBeGreaterThan(3);
        for (const statement of purged)
          expect([statement.sql, await tablesRead(suite.db.knex, statement)]).not.toEqual([
            statement.sql,
            expect.arrayContaining(['notifier_notification']),
          ]);
        await using worker = notifier.worker();
        await worker.start();
        // The first passes of all loops, and the first test of LISTEN.
        await wait(1_500);
        postgres?.take();
        await wait(4_000);
        const times = new Map<string, number>();
        for (const { sql } of postgres?.take() ?? []) times.set(sql.slice(0, 120), (times.get(sql.slice(0, 120)) ?? 0) + 1);
        const most = [...times].sort(([, a], [, b]) => b - a);
        // Per second: one look for wake rows, four for due endpoints, two for leases.
        expect(most.reduce((sum, [, n]) => sum + n, 0) / 4, JSON.stringify(most.slice(0, 5))).toBeLessThan(12);
      } finally {
        await notifier.close();
        await knex.destroy();
      }
    });
  },
  ['postgres', 'mysql', 'mariadb'],
);
