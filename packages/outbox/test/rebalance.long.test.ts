import type { Message, Publisher, Subscriber } from '@holdfast/broker';
import { kafka } from '@holdfast/broker/kafka';
import { platformaticKafka } from '@holdfast/broker/platformatic-kafka';
import { every, silentLogger, uuidv7, wait } from '@holdfast/core';
import { until } from '@holdfast/core/testing';
import { Admin } from '@platformatic/kafka';
import { beforeAll, describe, expect, it } from 'vitest';
import type { Consumption } from '../src/index.ts';
import { onEveryDatabase } from './suite.ts';

const { HOLDFAST_KAFKA_BROKERS: brokers = '' } = process.env;
const seconds = Number(process.env.HOLDFAST_REBALANCE_SECONDS ?? 15);
const clients: readonly { name: string; open: () => Publisher & Subscriber }[] = [
  { name: '@platformatic/kafka', open: () => platformaticKafka({ brokers: [brokers], logger: silentLogger }) },
  { name: 'kafkajs', open: () => kafka({ brokers: [brokers], logger: silentLogger }) },
];

onEveryDatabase(
  'a consumer group whose members come and go',
  (suite) => {
    beforeAll(async () => {
      await suite.db.knex.schema.createTable('effects', (t) => {
        t.increments('seen');
        t.string('message_id');
      });
    });

    describe.runIf(brokers).each(clients)('over $name', ({ open }) => {
      it(
        'loses nothing and repeats nothing, with handlers that take longer than the heartbeat',
        async () => {
          const topic = `rebalance-${uuidv7().slice(-12)}`;
          const admin = new Admin({ clientId: 'test', bootstrapBrokers: [brokers] });
          await admin.createTopics({ topics: [topic, `${topic}.dead`], partitions: 6, replicas: 1 });
          await admin.close();
          await suite.db.knex('effects').delete();
          const writer = suite.use(open());
          let published = 0;
          const publish = async (count: number): Promise<void> => {
            const batch = Array.from({ length: count }, (): Message => {
              const n = published++;
              return {
                id: `${topic}-${n}`,
                topic,
                key: `k${n % 30}`,
                headers: { ce_time: new Date().toISOString() },
                body: Buffer.from(String(n)),
                contentType: 'text/plain',
              };
            });
            // A new topic may have no leader yet. A message that arrived nevertheless is published again with the same id.
            for (let left = batch; left.length > 0; ) {
              const results = await writer.publish(left);
              expect(results.map(({ outcome }) => outcome)).not.toContain('poison');
              left = left.filter((_, i) => results[i]?.outcome !== 'acked');
              if (left.length > 0) await wait(100);
            }
          };
          const inbox = suite.inbox();
          const members: { broker: Publisher & Subscriber; consumption: Promise<Consumption> }[] = [];
          const join = (): void => {
            const broker = suite.use(open());
            const consumption = inbox.consume({
              subscriber: broker,
              topic,
              consumer: topic,
              concurrency: 6,
              retry: every(50),
              handler: async (message, trx) => {
                const n = Number(Buffer.from(message.body).toString());
                await trx('effects').insert({ message_id: message.id });
                await wait(n % 150 === 7 ? 4_000 : 5);
              },
            });
            members.push({ broker, consumption });
          };
          join();
          await publish(100);
          await members[0]?.consumption;
          const ends = performance.now() + seconds * 1_000;
          for (let turn = 0; performance.now() < ends; turn++) {
            if (members.length < 3 && turn % 2 === 0) join();
            else if (members.length > 1) {
              const leaving = members.shift();
              await (await leaving?.consumption)?.close();
            }
            await publish(60);
            await wait(1_500);
          }
          await until(async () => Number((await suite.db.knex('effects').count({ n: '*' }))[0]?.n) >= published, { withinMs: 60_000 });
          await wait(500);
          const [row] = await suite.db.knex('effects').countDistinct({ distinct: 'message_id' }).count({ all: '*' });
          expect({ distinct: Number(row?.distinct), all: Number(row?.all) }).toEqual({ distinct: published, all: published });
          for (const { consumption } of members) await (await consumption).close();
        },
        150_000 + seconds * 1_000,
      );
    });
  },
  ['postgres'],
);
