import type { Message } from '@holdfast/broker';
import { memoryBroker } from '@holdfast/broker/memory';
import { every, silentLogger } from '@holdfast/core';
import { beforeAll, expect, it } from 'vitest';
import { messageOf } from './message-of.ts';
import { onEveryDatabase } from './suite.ts';

onEveryDatabase('the inbox under load', (suite) => {
  beforeAll(async () => {
    await suite.db.knex.schema.createTable('effects', (t) => {
      t.increments('seen');
      t.string('message_id');
    });
  });

  it(
    'gives ten thousand messages, each one to five times, over four consumers, one effect each',
    async () => {
      const broker = suite.use(memoryBroker({ logger: silentLogger }));
      const inboxes = [suite.inbox(), suite.inbox(), suite.inbox(), suite.inbox()];
      const total = Number(process.env.HOLDFAST_INBOX_MESSAGES ?? (suite.db.name === 'sqlite' ? 2_000 : 10_000));
      await suite.db.knex('effects').delete();
      let calls = 0;
      for (const inbox of inboxes)
        suite.use(
          await inbox.consume({
            subscriber: broker,
            topic: 'orders',
            consumer: 'many',
            concurrency: 8,
            retry: every(5),
            handler: async (delivered, trx) => {
              calls += 1;
              await trx('effects').insert({ message_id: delivered.id });
            },
          }),
        );
      let published = 0;
      for (let from = 0; from < total; from += 500) {
        const batch: Message[] = [];
        for (let n = from; n < from + 500; n++) for (let copy = 0; copy <= n % 5; copy++) batch.push(messageOf(`m${n}`));
        // Copies far from each other, and next to each other.
        batch.sort((a, b) => (a.id < b.id ? -1 : 1) * (from % 1_000 === 0 ? 1 : Math.sin(Number(a.id.slice(1)))));
        published += batch.length;
        await broker.publish(batch);
      }
      expect(published).toBe(total * 3);
      const [row] = await suite.db.knex('effects').countDistinct({ distinct: 'message_id' }).count({ all: '*' });
      expect({ distinct: Number(row?.distinct), all: Number(row?.all) }).toEqual({ distinct: total, all: total });
      expect(calls).toBeLessThan(total * 1.2);
    },
    240_000 * Math.max(1, Number(process.env.HOLDFAST_INBOX_MESSAGES ?? 0) / 100_000),
  );
});
