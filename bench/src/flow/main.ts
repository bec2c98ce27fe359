import { type TestDatabase, testDialects } from '@holdfast/core/testing';
import type { BenchOptions } from '../tasks.ts';
import { bullmqFlow, graphileFlow, oursFlow, pgBossFlow, rawFlow } from './contestants.ts';
import { type FlowContestant, flow } from './flow.ts';
import { flowLatency } from './latency.ts';
import { holdSnapshot } from './snapshot.ts';

/**
 * Tasks that come and go: submitted by 1,000 and run at once, at most 5,000 waiting, for minutes. `flow/…` with nothing in the way,
 * `flow-held/…` beside a snapshot that is held from the start, so that the database can't remove the rows that have gone.
 */
export async function flowBench(options: BenchOptions): Promise<void> {
  const windows = 10;
  const windowMs = (options.minutes * 60_000) / windows;
  const wanted = (name: string): boolean => options.only === undefined || options.only.has(name);
  for (const dialect of testDialects())
    for (const held of [false, true]) {
      const bench = `flow${held ? '-held' : ''}/${dialect.name}`;
      if (!wanted(bench)) continue;
      const contestants: Record<string, (db: TestDatabase) => Promise<FlowContestant>> = {
        ours: (db) => oursFlow(db, 'none'),
        'ours, rows kept': (db) => oursFlow(db, 'all'),
        ...(dialect.name === 'postgres' ? { raw: rawFlow, 'graphile-worker': graphileFlow, 'pg-boss': pgBossFlow } : {}),
      };
      const redisUrl = process.env.HOLDFAST_REDIS_URL;
      if (dialect.name === 'postgres' && !held && redisUrl) contestants.BullMQ = () => bullmqFlow(redisUrl);
      const rates: Record<string, number[]> = {};
      for (const [name, make] of Object.entries(contestants)) {
        if (options.contestants && !options.contestants.has(name)) continue;
        const db = await dialect.create();
        try {
          const contestant = await make(db);
          const release = held && contestant.table !== undefined ? await holdSnapshot(db, contestant.table) : undefined;
          rates[name] = await flow(contestant, { by: 1_000, waiting: 5_000, windows, windowMs, onEnd: release });
        } finally {
          await db.drop();
        }
      }
      print(bench, rates, options.json);
    }
  const postgres = testDialects().find(({ name }) => name === 'postgres');
  if (postgres && wanted('flow-latency/postgres')) await flowLatency(postgres, options.json);
}

function print(bench: string, rates: Readonly<Record<string, readonly number[]>>, json: boolean): void {
  const lasts = Object.fromEntries(Object.entries(rates).map(([name, all]) => [name, all.at(-1) ?? Number.NaN]));
  const { ours = Number.NaN, raw, ...peers } = lasts;
  const share = ([first = Number.NaN, ...rest]: readonly number[]): number => Number(((rest.at(-1) ?? Number.NaN) / first).toFixed(2));
  const others = Object.entries(peers).filter(([name]) => !name.startsWith('ours') && name !== 'BullMQ');
  const best = Math.max(...others.map(([, rate]) => rate));
  const line = {
    bench,
    unit: 'tasks/s in the last tenth of the time',
    ours,
    raw: raw ?? null,
    peers,
    vsBestPeer: others.length === 0 ? null : Number((ours / best).toFixed(2)),
    vsRaw: raw === undefined ? null : Number((ours / raw).toFixed(2)),
    windows: rates,
    lastOfFirst: Object.fromEntries(Object.entries(rates).map(([name, all]) => [name, share(all)])),
  };
  if (json) console.log(JSON.stringify(line));
  else {
    console.log(`\n${bench}  (tasks/s in ten windows; the last in relation to the first)`);
    for (const [name, all] of Object.entries(rates)) console.log(`  ${name.padEnd(18)} ${all.join(' ')}   ${share(all)}`);
  }
}
