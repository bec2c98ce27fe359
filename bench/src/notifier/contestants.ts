import { createHmac, randomUUID } from 'node:crypto';
import { coreSchema, migrate, silentLogger } from '@holdfast/core';
import type { TestDatabase } from '@holdfast/core/testing';
import { createNotifier, type Notifier, notifierSchema } from '@holdfast/notifier';
import { Queue, Worker } from 'bullmq';
import { Pool } from 'undici';
import type { Receivers } from './receivers.ts';

const key = Buffer.alloc(24, 7);
/** 500 bytes. */
export const payload = { orderId: '1454351703703945216', note: 'x'.repeat(450) };
const body = JSON.stringify(payload);
const concurrency = 64;

/** Headers of a Standard Webhook, as users write them. */
function signed(): Record<string, string> {
  const id = `msg_${randomUUID()}`;
  const timestamp = String(Math.floor(performance.timeOrigin / 1_000 + performance.now() / 1_000));
  const signature = createHmac('sha256', key).update(`${id}.${timestamp}.${body}`).digest('base64');
  return { 'content-type': 'application/json', 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': `v1,${signature}` };
}

/** Runs `n` requests, `concurrency` at a time; returns how many a second. */
async function inTurn(n: number, send: (i: number) => Promise<void>): Promise<number> {
  let next = 0;
  const started = performance.now();
  await Promise.all(
    Array.from({ length: concurrency }, async () => {
      while (next < n) await send(next++);
    }),
  );
  return (n / (performance.now() - started)) * 1_000;
}

/** undici's Pool, signed, without a database: the limit of a sender. */
export async function rawPool(to: Receivers, n: number): Promise<number> {
  const pools = to.urls.map((url) => new Pool(new URL(url).origin, { connections: 4, pipelining: 1 }));
  const rate = await inTurn(n, async (i) => {
    const pool = pools[i % pools.length] as Pool;
    const response = await pool.request({ path: '/hook', method: 'POST', headers: signed(), body });
    await response.body.text();
  });
  await Promise.all(pools.map((pool) => pool.close()));
  return rate;
}

/** A BullMQ worker that signs and calls fetch, as users write it. */
export async function bullmq(to: Receivers, n: number, redisUrl: string): Promise<number> {
  const { hostname, port } = new URL(redisUrl);
  const connection = { host: hostname, port: Number(port), maxRetriesPerRequest: null };
  const name = `bench-${randomUUID()}`;
  const queue = new Queue(name, { connection });
  for (let from = 0; from < n; from += 1_000)
    await queue.addBulk(
      Array.from({ length: 1_000 }, (_, i) => ({
        name: 'hook',
        data: { url: to.urls[(from + i) % to.urls.length], payload },
        opts: { attempts: 10, backoff: { type: 'exponential', delay: 3_000 }, removeOnComplete: true },
      })),
    );
  let done = 0;
  const worker = new Worker(
    name,
    async (job) => {
      const response = await fetch(job.data.url, { method: 'POST', headers: signed(), body: JSON.stringify(job.data.payload) });
      if ((await response.text()) !== 'success') throw new Error('not acknowledged');
    },
    { connection, concurrency, autorun: false },
  );
  const finished = new Promise<void>((resolve) => {
    worker.on('completed', () => {
      done += 1;
      if (done === n) resolve();
    });
  });
  const started = performance.now();
  void worker.run();
  await finished;
  const rate = (n / (performance.now() - started)) * 1_000;
  await worker.close();
  await queue.obliterate({ force: true });
  await queue.close();
  return rate;
}

/** Ours: rows in the database, every attempt recorded before it leaves, guard and breaker on. */
export async function open(db: TestDatabase, to: Receivers): Promise<Notifier> {
  await migrate(db.knex, [coreSchema, notifierSchema]);
  return createNotifier({
    knex: db.knex,
    logger: silentLogger,
    keys: () => `whsec_${key.toString('base64')}`,
    egress: { allowHttp: true, allowCidrs: ['127.0.0.1/32'], allowPorts: to.ports },
  });
}

/** Inserts `n` notifications by SQL, round robin over the receivers. */
export async function fill(db: TestDatabase, notifier: Notifier, urls: readonly string[], n: number): Promise<void> {
  const ids: string[] = [];
  for (const url of urls) ids.push(await notifier.endpoints.register({ url, keyRef: 'k' }));
  for (let from = 0; from < n; from += 500)
    await db.knex('notifier_notification').insert(
      Array.from({ length: Math.min(500, n - from) }, (_, i) => ({
        endpoint_id: ids[(from + i) % ids.length],
        tenant: '',
        subject_id: randomUUID(),
        status: 'ON',
        webhook_id: `msg_${randomUUID()}`,
        url: urls[(from + i) % urls.length],
        content_type: 'application/json',
        params: body,
        key_ref: 'k',
        due_at: 1,
        created_at: 1,
      })),
    );
  await db.knex('notifier_wake').insert(ids.map((id) => ({ endpoint_id: id })));
  if (db.name === 'postgres') await db.knex.raw('ANALYZE');
}

export async function ours(db: TestDatabase, to: Receivers, n: number): Promise<number> {
  await using notifier = await open(db, to);
  await fill(db, notifier, to.urls, n);
  let done = 0;
  const finished = new Promise<void>((resolve) => {
    notifier.events.on('notification:delivered', () => {
      done += 1;
      if (done === n) resolve();
    });
  });
  await using worker = notifier.worker({ concurrency });
  const started = performance.now();
  await worker.start();
  await finished;
  return (n / (performance.now() - started)) * 1_000;
}

/**
 * Measures the time from the trigger to the receiver, in ms: 300 triggers a second for `seconds`, over fifty endpoints. Optionally one more
 * endpoint hangs, with 10,000 notifications waiting.
 */
export async function healthy(
  db: TestDatabase,
  to: Receivers,
  hangs: boolean,
  seconds: number,
): Promise<{ readonly p50: number; readonly p99: number }> {
  await using notifier = await open(db, to);
  const [bad, ...good] = to.urls;
  to.hang(hangs ? 1 : 0);
  if (hangs) await fill(db, notifier, [bad as string], 10_000);
  await using worker = notifier.worker({ concurrency });
  await worker.start();
  const run = async (forSeconds: number): Promise<void> => {
    const started = performance.now();
    for (let i = 0; performance.now() - started < forSeconds * 1_000; i++) {
      const at = Math.round(performance.timeOrigin + performance.now());
      await notifier
        .now()
        .trigger({ subjectId: randomUUID(), status: 'ON', url: good[i % good.length] as string, keyRef: 'k', payload: { at, ...payload } });
      const due = started + (i + 1) * (1_000 / 300);
      if (due > performance.now()) await new Promise((resolve) => setTimeout(resolve, due - performance.now()));
    }
  };
  await run(3);
  await to.report();
  await run(seconds);
  await new Promise((resolve) => setTimeout(resolve, 500));
  const { p50, p99 } = await to.report();
  return { p50, p99 };
}
