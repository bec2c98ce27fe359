import type { TestDatabase } from '@holdfast/core/testing';
import { Logger, makeWorkerUtils, run, runMigrations } from 'graphile-worker';
import { PgBoss } from 'pg-boss';
import { inFlight } from './in-flight.ts';

/** A logger that writes nothing. */
export const quiet = new Logger(() => () => undefined);

/** The address of a test database, and a schema beside it for a peer's tables. */
export function parts(db: TestDatabase): { readonly connectionString: string; readonly schema: string } {
  const url = new URL(db.address);
  const schema = `${url.searchParams.get('schema') ?? 't'}_peer`;
  url.search = '';
  return { connectionString: url.href, schema };
}

/** graphile-worker as tuned by its own documentation: concurrency 100, a local queue, batched completion. */
export async function graphileDrain(db: TestDatabase, n: number, queueSize: number): Promise<number> {
  const { connectionString, schema } = parts(db);
  await runMigrations({ connectionString, schema, logger: quiet });
  const utils = await makeWorkerUtils({ connectionString, schema, logger: quiet });
  for (let from = 0; from < n; from += 1000)
    await utils.addJobs(Array.from({ length: 1000 }, (_, i) => ({ identifier: 'step', payload: { i: from + i } })));
  await utils.withPgClient((client) => client.query('ANALYZE'));
  await utils.release();
  let done = 0;
  let finished: () => void = () => undefined;
  const all = new Promise<void>((resolve) => {
    finished = resolve;
  });
  const started = performance.now();
  const runner = await run({
    connectionString,
    schema,
    logger: quiet,
    noHandleSignals: true,
    taskList: {
      step: () => {
        if (++done === n) finished();
      },
    },
    preset: {
      worker: {
        concurrentJobs: 100,
        maxPoolSize: 10,
        pollInterval: 500,
        localQueue: { size: queueSize, refetchDelay: { durationMs: 0 } },
        completeJobBatchDelay: 0,
        failJobBatchDelay: 0,
      },
    },
  });
  await all;
  const rate = n / ((performance.now() - started) / 1000);
  await runner.stop();
  await db.knex.raw(`DROP SCHEMA ${schema} CASCADE`);
  return rate;
}

/** graphile-worker's `addJob`, 24 at a time, or `addJobs` by `batch`. */
export async function graphileSubmit(db: TestDatabase, n: number, batch: number): Promise<number> {
  const { connectionString, schema } = parts(db);
  const utils = await makeWorkerUtils({ connectionString, schema, logger: quiet, maxPoolSize: 24 });
  await utils.migrate();
  let rate: number;
  if (batch === 1) {
    rate = await inFlight(24, n, (i) => utils.addJob('step', { i }));
  } else {
    const started = performance.now();
    for (let from = 0; from < n; from += batch)
      await utils.addJobs(Array.from({ length: batch }, (_, i) => ({ identifier: 'step', payload: { i: from + i } })));
    rate = n / ((performance.now() - started) / 1000);
  }
  await utils.release();
  await db.knex.raw(`DROP SCHEMA ${schema} CASCADE`);
  return rate;
}

/** pg-boss fetching and completing 500 at a time on 4 loops. It keeps completed jobs. */
export async function pgBossDrain(db: TestDatabase, n: number): Promise<number> {
  const { connectionString, schema } = parts(db);
  const boss = new PgBoss({ connectionString, schema, supervise: false, schedule: false });
  boss.on('error', () => undefined);
  await boss.start();
  await boss.createQueue('step');
  for (let from = 0; from < n; from += 1000)
    await boss.insert(
      'step',
      Array.from({ length: 1000 }, (_, i) => ({ data: { i: from + i } })),
    );
  await db.knex.raw('ANALYZE');
  const started = performance.now();
  await Promise.all(
    Array.from({ length: 4 }, async () => {
      for (;;) {
        const jobs = await boss.fetch('step', { batchSize: 500 });
        if (jobs.length === 0) return;
        await boss.complete(
          'step',
          jobs.map((job) => job.id),
        );
      }
    }),
  );
  const rate = n / ((performance.now() - started) / 1000);
  await boss.stop({ graceful: false });
  await db.knex.raw(`DROP SCHEMA ${schema} CASCADE`);
  return rate;
}
