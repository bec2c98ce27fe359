import { randomUUID } from 'node:crypto';
import type { TestDatabase } from '@holdfast/core/testing';
import { Queue, Worker } from 'bullmq';
import { makeWorkerUtils, run, runMigrations } from 'graphile-worker';
import pg from 'pg';
import { PgBoss } from 'pg-boss';
import { ours } from '../ours.ts';
import { parts, quiet } from '../postgres-peers.ts';
import type { FlowContestant } from './flow.ts';

const numbers = (count: number): { i: number }[] => Array.from({ length: count }, (_, i) => ({ i }));

/** Ours, with no-op handlers. */
export async function oursFlow(db: TestDatabase, keep: 'all' | 'none'): Promise<FlowContestant> {
  const biz = await ours(db.knex, { keep });
  biz.handle('step', () => undefined);
  const worker = biz.worker();
  await worker.start();
  return {
    table: 'compensate_biz',
    submit: async (count) => void (await biz.now().submitMany('step', numbers(count))),
    onDone: (listener) => void biz.events.on('task:succeeded', () => listener(1)),
    async stop() {
      await worker.stop();
      await biz.close();
    },
  };
}

/** graphile-worker as tuned by its own documentation. */
export async function graphileFlow(db: TestDatabase): Promise<FlowContestant> {
  const { connectionString, schema } = parts(db);
  await runMigrations({ connectionString, schema, logger: quiet });
  const utils = await makeWorkerUtils({ connectionString, schema, logger: quiet });
  let heard: (count: number) => void = () => undefined;
  const runner = await run({
    connectionString,
    schema,
    logger: quiet,
    noHandleSignals: true,
    taskList: { step: () => heard(1) },
    preset: {
      worker: {
        concurrentJobs: 100,
        maxPoolSize: 10,
        pollInterval: 500,
        localQueue: { size: 1000, refetchDelay: { durationMs: 0 } },
        completeJobBatchDelay: 0,
        failJobBatchDelay: 0,
      },
    },
  });
  return {
    table: `${schema}._private_jobs`,
    submit: async (count) => void (await utils.addJobs(numbers(count).map((payload) => ({ identifier: 'step', payload })))),
    onDone: (listener) => void (heard = listener),
    async stop() {
      await runner.stop();
      await utils.release();
      await db.knex.raw(`DROP SCHEMA ${schema} CASCADE`);
    },
  };
}

/** pg-boss that fetches and completes 500 at a time on 4 loops, and deletes completed jobs. */
export async function pgBossFlow(db: TestDatabase): Promise<FlowContestant> {
  const { connectionString, schema } = parts(db);
  const boss = new PgBoss({ connectionString, schema, supervise: false, schedule: false });
  boss.on('error', () => undefined);
  await boss.start();
  await boss.createQueue('step');
  let heard: (count: number) => void = () => undefined;
  let open = true;
  const loops = Array.from({ length: 4 }, async () => {
    while (open) {
      const jobs = await boss.fetch('step', { batchSize: 500 });
      if (jobs.length === 0) await new Promise((resolve) => setTimeout(resolve, 2));
      else {
        await boss.deleteJob(
          'step',
          jobs.map((job) => job.id),
        );
        heard(jobs.length);
      }
    }
  });
  return {
    table: `${schema}.job`,
    submit: async (count) =>
      void (await boss.insert(
        'step',
        numbers(count).map((data) => ({ data })),
      )),
    onDone: (listener) => void (heard = listener),
    async stop() {
      open = false;
      await Promise.all(loops);
      await boss.stop({ graceful: false });
      await db.knex.raw(`DROP SCHEMA ${schema} CASCADE`);
    },
  };
}

/** BullMQ on Redis, 100 at a time: for scale, since Redis has no snapshots and promises less. */
export async function bullmqFlow(redisUrl: string): Promise<FlowContestant> {
  const { hostname, port } = new URL(redisUrl);
  const connection = { host: hostname, port: Number(port), maxRetriesPerRequest: null };
  const name = `bench-${randomUUID()}`;
  const queue = new Queue(name, { connection });
  let heard: (count: number) => void = () => undefined;
  const worker = new Worker(name, async () => undefined, { connection, concurrency: 100 });
  worker.on('completed', () => heard(1));
  return {
    table: undefined,
    submit: async (count) =>
      void (await queue.addBulk(numbers(count).map((data) => ({ name: 'step', data, opts: { removeOnComplete: true } })))),
    onDone: (listener) => void (heard = listener),
    async stop() {
      await worker.close();
      await queue.obliterate({ force: true });
      await queue.close();
    },
  };
}

/**
 * The same flow in bare statements: inserts by `unnest`, and on two connections a claim of 500 that begins at the last id claimed, and its
 * deletion. It finds no row that commits late: the limit of the server.
 */
export async function rawFlow(db: TestDatabase): Promise<FlowContestant> {
  const { connectionString, schema } = parts(db);
  const clients = Array.from({ length: 3 }, () => new pg.Client({ connectionString }));
  await Promise.all(clients.map((client) => client.connect()));
  const [submitter, ...claimers] = clients as [pg.Client, ...pg.Client[]];
  await submitter.query(`CREATE SCHEMA ${schema}`);
  await submitter.query(
    `CREATE TABLE ${schema}.raw (id BIGSERIAL PRIMARY KEY, kind varchar(100) NOT NULL, context text, status int NOT NULL DEFAULT 0, version int NOT NULL DEFAULT 0, lease_until bigint)`,
  );
  await submitter.query(`CREATE INDEX raw_ready ON ${schema}.raw (kind, id) WHERE status = 0`);
  let heard: (count: number) => void = () => undefined;
  let open = true;
  let floor = '0';
  const loops = claimers.map(async (client) => {
    while (open) {
      const { rows } = await client.query<{ id: string }>({
        name: 'claim',
        text: `UPDATE ${schema}.raw SET status = 1, version = version + 1, lease_until = 1 WHERE id = ANY(ARRAY(SELECT id FROM ${schema}.raw WHERE status = 0 AND kind = 'step' AND id > $1 ORDER BY id LIMIT 500 FOR UPDATE SKIP LOCKED)) RETURNING id, version, context`,
        values: [floor],
      });
      if (rows.length === 0) {
        await new Promise((resolve) => setTimeout(resolve, 2));
        continue;
      }
      const ids = rows.map((row) => row.id);
      for (const id of ids) if (BigInt(id) > BigInt(floor)) floor = id;
      await client.query({ name: 'remove', text: `DELETE FROM ${schema}.raw WHERE id = ANY($1::bigint[])`, values: [ids] });
      heard(rows.length);
    }
  });
  return {
    table: `${schema}.raw`,
    submit: async (count) =>
      void (await submitter.query({
        name: 'insert',
        text: `INSERT INTO ${schema}.raw (kind, context) SELECT 'step', u FROM unnest($1::text[]) u RETURNING id`,
        values: [numbers(count).map((one) => JSON.stringify(one))],
      })),
    onDone: (listener) => void (heard = listener),
    async stop() {
      open = false;
      await Promise.all(loops);
      await submitter.query(`DROP SCHEMA ${schema} CASCADE`);
      await Promise.all(clients.map((client) => client.end()));
    },
  };
}
