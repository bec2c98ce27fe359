import { DatabaseUnavailableError, MigrationRequiredError, wait } from '@holdfast/core';
import { until } from '@holdfast/core/testing';
import knexFactory from 'knex';
import { expect, it } from 'vitest';
import { bizType, createCompensateBiz } from '../src/index.ts';
import { onEveryDatabase } from './suite.ts';
import { any } from './suite-schema.ts';

/** How long connections are killed. */
const outageMs = Number(process.env.HOLDFAST_OUTAGE_MS ?? 60_000);

onEveryDatabase(
  'an unsteady database',
  (suite) => {
    it(
      'loses nothing and commits no effect twice while connections are killed every 200 ms',
      async () => {
        const mysql = suite.db.name !== 'postgres';
        await suite.db.knex.schema.createTable('effects', (t) => {
          t.bigInteger('task_id');
        });
        const biz = suite.create({ shaken: bizType(any, { concurrency: 8, maxLost: 50 }) });
        biz.handle('shaken', async (_context, run) => {
          await wait(5);
          return run.commit((trx) => trx('effects').insert({ task_id: run.id }));
        });
        const chaos = suite.db.connect();
        await using worker = biz.worker({ lease: '2s' });
        await worker.start();
        const accepted: string[] = [];
        let kills = 0;
        const ends = performance.now() + outageMs;
        const shaking = (async () => {
          while (performance.now() < ends) {
            await wait(200);
            if (mysql) {
              const [rows] = await chaos.raw(
                'SELECT id FROM information_schema.processlist WHERE id <> CONNECTION_ID() AND db = DATABASE()',
              );
              for (const { id } of rows) await chaos.raw(`KILL ${Number(id)}`).catch(() => undefined);
              kills += rows.length;
            } else {
              const { rows } = await chaos.raw(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND application_name = current_setting('application_name')",
              );
              kills += rows.length;
            }
          }
        })();
        while (performance.now() < ends) {
          // Refused submits were not accepted; that they are refused with an error is all that is asked of them.
          const submitted = await biz
            .now()
            .submit('shaken', {})
            .catch(() => undefined);
          if (submitted) accepted.push(submitted.id);
          await wait(5);
        }
        await shaking;
        expect(kills).toBeGreaterThan(10);
        // The test's own pool may still hold connections that were ended.
        const unfinished = () => chaos('compensate_biz').where({ biz_type: 'shaken' }).whereNot({ status: 'SUCCESS' }).count({ n: '*' });
        await until(async () => Number((await unfinished().catch(() => [{ n: 1 }]))[0]?.n) === 0, { withinMs: 30_000 });
        const effects = (await chaos('effects').select('task_id')).map((row) => String(row.task_id));
        expect(new Set(effects).size).toBe(effects.length);
        const seen = new Set(effects);
        expect(accepted.filter((id) => !seen.has(id))).toEqual([]);
      },
      outageMs + 60_000,
    );

    it('says what to do when tables are missing, and when nothing answers', async () => {
      const lost = createCompensateBiz({ knex: suite.db.knex, types: { none: bizType(any) }, tablePrefix: 'absent_' });
      await expect(lost.check()).rejects.toThrow(MigrationRequiredError);
      await lost.close();
      const client = suite.db.name === 'postgres' ? 'pg' : 'mysql2';
      const nowhere = knexFactory({ client, connection: { host: '127.0.0.1', port: 1, user: 'x', database: 'x' } });
      const biz = createCompensateBiz({ knex: nowhere, types: { none: bizType(any) } });
      await expect(biz.now().submit('none', {})).rejects.toThrow(DatabaseUnavailableError);
      await biz.close();
      await nowhere.destroy();
    });
  },
  ['mariadb', 'postgres'],
);
