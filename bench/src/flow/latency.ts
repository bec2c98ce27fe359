import type { TestDatabase, TestDialect } from '@holdfast/core/testing';
import { ours } from '../ours.ts';
import { holdSnapshot } from './snapshot.ts';

const deadRows = 3_600_000;
const perSecond = 1_000;
const seconds = 60;

/**
 * From submit to start at 1,000 tasks a second, beside a snapshot that keeps 3.6 million rows which have gone, as many as an hour leaves. The
 * tasks are submitted by ten: that names no row to the worker, so it has to find each by a look.
 */
export async function flowLatency(dialect: TestDialect, json: boolean): Promise<void> {
  const figures: Record<string, number> = {};
  for (const held of [false, true]) {
    const db = await dialect.create();
    try {
      const { firstMs, found: ms } = await measure(db, held);
      const at = (share: number): number => Number((ms[Math.floor((ms.length - 1) * share)] ?? Number.NaN).toFixed(1));
      Object.assign(figures, {
        [held ? 'heldP50Ms' : 'p50Ms']: at(0.5),
        [held ? 'heldP99Ms' : 'p99Ms']: at(0.99),
        [held ? 'heldMaxMs' : 'maxMs']: at(1),
        [held ? 'heldFirstMs' : 'firstMs']: Number(firstMs.toFixed(1)),
      });
    } finally {
      await db.drop();
    }
  }
  const line = {
    bench: 'flow-latency/postgres',
    unit: 'ms',
    ours: figures.heldP99Ms,
    raw: null,
    peers: {},
    vsBestPeer: null,
    vsRaw: null,
    deadRows,
    perSecond,
    ...figures,
  };
  if (json) console.log(JSON.stringify(line));
  else console.log('\nflow-latency/postgres', figures);
}

/** Returns the sorted latencies, and that of the first task after the start. */
async function measure(db: TestDatabase, held: boolean): Promise<{ readonly firstMs: number; readonly found: readonly number[] }> {
  const biz = await ours(db.knex, { keep: 'none' });
  const release = held ? await holdSnapshot(db, 'compensate_biz') : undefined;
  if (held) await makeDeadRows(db);
  const found: number[] = [];
  biz.handle('step', (context) => void found.push(performance.now() - (context.at as number)));
  const worker = biz.worker();
  await worker.start();
  // The first look of a worker is one over everything. A worker that has run for an hour made it long ago.
  const first = { at: performance.now() };
  await biz.now().submitMany('step', Array(10).fill(first));
  while (found.length < 10) await new Promise((resolve) => setTimeout(resolve, 20));
  const firstMs = Math.max(...found.splice(0));
  const began = performance.now();
  for (let i = 0; i < (seconds * perSecond) / 10; i++) {
    const ahead = i * (10_000 / perSecond) - (performance.now() - began);
    if (ahead > 1) await new Promise((resolve) => setTimeout(resolve, ahead));
    const at = performance.now();
    await biz.now().submitMany(
      'step',
      Array.from({ length: 10 }, () => ({ at })),
    );
  }
  while (found.length < seconds * perSecond) await new Promise((resolve) => setTimeout(resolve, 20));
  await worker.stop();
  await biz.close();
  await release?.();
  return { firstMs, found: found.sort((a, b) => a - b) };
}

/** Rows that were submitted, claimed and deleted, as an hour of work leaves them. */
async function makeDeadRows(db: TestDatabase): Promise<void> {
  const chunk = 200_000;
  for (let from = 0; from < deadRows; from += chunk) {
    await db.knex.raw(`INSERT INTO compensate_biz (biz_type, context) SELECT 'step', '{"i":1}' FROM generate_series(1, ${chunk})`);
    await db.knex.raw(
      "UPDATE compensate_biz SET status = 'PROCESSING', version = 1, starts = 1, lost = 1, lease_until = claim_rank + 30000",
    );
    await db.knex.raw('DELETE FROM compensate_biz');
  }
}
