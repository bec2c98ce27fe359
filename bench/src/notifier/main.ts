import { testDialects } from '@holdfast/core/testing';
import { rounds } from '../report.ts';
import type { BenchOptions } from '../tasks.ts';
import { bullmq, ours, rawFetch, rawPool } from './contestants.ts';
import { type Receivers, receivers } from './receivers.ts';

/** Signed callbacks to fast local receivers: ours against what people write, and against undici alone. */
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
              return await ours(db, list, 30_000);
            } finally {
              await db.drop();
            }
          },
          raw: () => rawPool(list, 60_000),
          'fetch alone': () => rawFetch(list, 20_000),
          'BullMQ and fetch': () => bullmq(list, 10_000, redisUrl),
        },
        options.json,
      ),
    );
  }
}
