import { ack, type Publisher, type Subscriber } from '@holdfast/broker';
import { platformaticKafka } from '@holdfast/broker/platformatic-kafka';
import { rabbitmq } from '@holdfast/broker/rabbitmq';
import { redis, redisWaker } from '@holdfast/broker/redis';
import { silentLogger, wait } from '@holdfast/core';
import { until } from '@holdfast/core/testing';
import { Admin } from '@platformatic/kafka';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { kafka as kafkaServer } from '../../../tooling/services/kafka.ts';
import { rabbitmq as rabbitmqServer } from '../../../tooling/services/rabbitmq.ts';
import { redis as redisServer } from '../../../tooling/services/redis.ts';
import { type ScratchServer, scratchServer } from '../../../tooling/services/scratch.ts';
import { outOfOrder, Recorder } from './recorder.ts';
import { onEveryDatabase } from './suite.ts';

const logger = silentLogger;
const cycles = Number(process.env.HOLDFAST_CYCLES ?? 3);
const brokers = [
  {
    service: redisServer,
    open: (url: string) => redis({ url, prefix: 'outbox', leaseMs: 1_000, logger }),
    prepare: async () => undefined,
  },
  { service: rabbitmqServer, open: (url: string) => rabbitmq({ url, lanes: 4, logger }), prepare: async () => undefined },
  {
    service: kafkaServer,
    open: (url: string) => platformaticKafka({ brokers: [url], logger }),
    prepare: async (url: string) => {
      const admin = new Admin({ clientId: 'test', bootstrapBrokers: [url] });
      await admin.createTopics({ topics: ['keyed'], partitions: 4, replicas: 1 });
      await admin.close();
    },
  },
].filter(({ service }) => process.env[service.variable]);

/** Broker and outbox on servers of their own kind; the broker goes away again and again. */
onEveryDatabase(
  'an outbox whose broker goes away',
  (suite) => {
    describe.each(brokers)('$service.name', ({ service, open, prepare }) => {
      let server: ScratchServer;
      beforeAll(async () => {
        server = await scratchServer(service, `${service.name}-outbox`);
        await prepare(server.url);
      }, 180_000);
      afterAll(async () => {
        await server?.stop();
      });

      it(
        'keeps what was put, in order, and calls nothing dead',
        async () => {
          const reader: Publisher & Subscriber = suite.use(open(server.url));
          const writer: Publisher & Subscriber = suite.use(open(server.url));
          const seen = new Map<string, number[]>();
          const ids = new Set<string>();
          await reader.subscribe(['keyed'], { group: 'oracle' }, async ({ message }) => {
            if (ids.has(message.id)) return ack;
            ids.add(message.id);
            const { k, n } = JSON.parse(Buffer.from(message.body).toString()) as { k: string; n: number };
            seen.set(k, [...(seen.get(k) ?? []), n]);
            return ack;
          });
          const outbox = suite.outbox({ publisher: writer });
          const relay = suite.use(outbox.relay());
          await relay.start();
          let n = 0;
          let stop = false;
          const failures: unknown[] = [];
          const putting = (async () => {
            while (!stop) {
              for (let i = 0; i < 5; i++)
                await outbox
                  .now()
                  .put('keyed', { k: `k${n % 23}`, n: n++ })
                  .catch((error) => failures.push(error));
              await wait(5);
            }
          })();
          await until(() => ids.size > 100, { withinMs: 30_000 });
          for (let cycle = 0; cycle < cycles; cycle++) {
            if (cycle % 3 === 0) await server.freeze(2_000);
            else {
              await server.kill();
              await wait(1_000);
              await server.start();
            }
            const before = ids.size;
            await until(() => ids.size > before + 50, { withinMs: 90_000, what: 'messages flow again' });
          }
          stop = true;
          await putting;
          expect(failures).toEqual([]);
          await until(async () => (await outbox.stats()).unsent === 0, { withinMs: 90_000 });
          await until(() => ids.size === n, { withinMs: 90_000, what: 'all arrived' });
          expect(outOfOrder(seen)).toBe(0);
          expect(await outbox.stats()).toMatchObject({ dead: 0, heldKeys: 0 });
          if (service.name === 'rabbitmq') {
            // No queue takes it: it becomes a dead letter, and is published once there is a queue.
            await outbox.now().put('free', { n: 1 });
            await until(async () => (await outbox.stats()).dead === 1);
            expect(await outbox.list({ status: 'dead' })).toMatchObject([{ topic: 'free', reason: 'poison' }]);
            let came = 0;
            await reader.subscribe(['free'], { group: 'late' }, async () => {
              came += 1;
              return ack;
            });
            await outbox.redrive({}, {}, { actor: 'test', reason: 'there is a queue now' });
            await until(() => came === 1);
          }
        },
        300_000 * Math.max(1, cycles / 3),
      );
    });
  },
  ['postgres'],
);

onEveryDatabase(
  'an outbox whose wake-ups go over Redis',
  (suite) => {
    it.runIf(process.env[redisServer.variable])(
      'loses only speed when Redis is flushed, full, or gone',
      async () => {
        const server = await scratchServer(redisServer, 'redis-outbox-waker');
        const client = new Redis(server.url, { maxRetriesPerRequest: 1 });
        client.on('error', () => undefined);
        const there = new Redis(server.url, { maxRetriesPerRequest: 1 });
        there.on('error', () => undefined);
        const own = redisWaker({ client, prefix: 'w', logger });
        const other = redisWaker({ client: there, prefix: 'w', logger });
        try {
          const publisher = new Recorder();
          // Two processes: one puts, the other publishes.
          const outbox = suite.outbox({ waker: own });
          const relay = suite.use(suite.outbox({ publisher, waker: other, knex: suite.db.connect() }).relay());
          await relay.start();
          await until(() => relay.lanes.length === 32 && own.reliable && other.reliable);
          let n = 0;
          const publishedWithin = async (ms: number, what: string): Promise<void> => {
            const started = performance.now();
            await outbox.now().put('keyed', { k: `k${n}`, n: n++ });
            await until(() => publisher.acked.length === n, { withinMs: ms + 3_000, what });
            expect(performance.now() - started, what).toBeLessThan(ms);
          };
          for (let i = 0; i < 5; i++) await publishedWithin(900, 'with Redis');
          for (let cycle = 0; cycle < 5; cycle++) {
            await client.flushall();
            await publishedWithin(2_500, 'flushed');
          }
          await client.config('SET', 'maxmemory', '1');
          await publishedWithin(2_500, 'out of memory');
          await client.config('SET', 'maxmemory', '0');
          for (let cycle = 0; cycle < 2; cycle++) {
            await server.kill();
            for (let i = 0; i < 3; i++) await publishedWithin(2_500, 'without Redis');
            await server.start();
            await until(() => client.status === 'ready' && own.reliable && other.reliable, {
              withinMs: 30_000,
              what: 'wake-ups flow again',
            });
          }
          for (let i = 0; i < 5; i++) await publishedWithin(900, 'with Redis again');
        } finally {
          await own.close();
          await other.close();
          client.disconnect();
          there.disconnect();
          await server.stop();
        }
      },
      120_000,
    );
  },
  ['mariadb', 'mysql'],
);
