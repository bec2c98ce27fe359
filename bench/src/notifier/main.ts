import { testDialects } from '@holdfast/core/testing';
import { median, rounds } from '../report/report.ts';
import type { BenchOptions } from '../tasks.ts';
import { bullmq, healthy, ours, rawPool } from './contestants.ts';
import { type Receivers, receivers } from './receivers.ts';

/** Signed callbacks to fast local receivers: ours against a usual worker, and against undici alone. */
export async function notifier(options: BenchOptions): Promise<void> {
  const wanted = (name: string): boolean => options.only === undefined || options.only.has(name);
  const redisUrl = process.env.HOLDFAST_REDIS_URL;
  if (!redisUrl) throw new Error('Redis must be up for BullMQ; run npm run services:up and set its address');
  const to = async <T>(count: number, run: (receivers: Receivers) => Promise<T>): Promise<T> => {
    const list = await receivers(count);
    try {
      return await run(list);
    } finally {
      await list.close();
    }
  };
  for (const dialect of testDialects()) {
    const name = `notifier-throughput/${dialect.name}`;
    if (!wanted(name)) continue;
    await to(64, (list) =>
      rounds(
        name,
        'callbacks/s to 64 origins, 64 at a time',
        options.rounds,
        {
          ours: async () => {
            const db = await dialect.create();
            try {
              return await ours(db, list, 60_000);
            } finally {
              await db.drop();
            }
          },
          raw: () => rawPool(list, 60_000),
          'BullMQ and fetch': () => bullmq(list, 10_000, redisUrl),
        },
        options.json,
      ),
    );
  }
  const postgres = testDialects().find(({ name }) => name === 'postgres');
  if (postgres && wanted('notifier-hanging/postgres')) {
    const found: Record<string, { p50: number; p99: number }[]> = { alone: [], beside: [] };
    for (let round = 0; round < Math.min(3, options.rounds); round++)
      for (const [name, hangs] of [
        ['alone', false],
        ['beside', true],
      ] as const)
        await to(51, async (list) => {
          const db = await postgres.create();
          try {
            found[name]?.push(await healthy(db, list, hangs, 12));
          } finally {
            await db.drop();
          }
        });
    const of = (name: string, which: 'p50' | 'p99'): number => Number(median((found[name] ?? []).map((one) => one[which])).toFixed(1));
    const result = {
      bench: 'notifier-hanging/postgres',
      unit: 'ms from the trigger to one of 50 healthy receivers',
      alone: { p50: of('alone', 'p50'), p99: of('alone', 'p99') },
      besideOneThatHangs: { p50: of('beside', 'p50'), p99: of('beside', 'p99') },
    };
    if (options.json) console.log(JSON.stringify(result));
    else
      console.log(
        `\n${result.bench}  (${result.unit})\n  alone                    p50 ${result.alone.p50}  p99 ${result.alone.p99}\n  beside one that hangs    p50 ${result.besideOneThatHangs.p50}  p99 ${result.besideOneThatHangs.p99}`,
      );
  }
}
