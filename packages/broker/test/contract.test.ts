import { coreSchema, migrate, silentLogger, uuidv7 } from '@holdfast/core';
import { type TestDatabase, testDialects } from '@holdfast/core/testing';
import { connect as connectAmqp } from 'amqplib';
import { Redis } from 'ioredis';
import { Kafka, logLevel } from 'kafkajs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { brokerSchema, databaseBroker } from '../src/database/index.ts';
import { kafka } from '../src/kafka/index.ts';
import { type MemoryBroker, memoryBroker } from '../src/memory/index.ts';
import { platformaticKafka } from '../src/platformatic-kafka/index.ts';
import { rabbitmq } from '../src/rabbitmq/index.ts';
import { redis } from '../src/redis/index.ts';
import { brokerContract, type ContractApi } from '../src/testing/index.ts';

const api: ContractApi = {
  it: (name, test, timeoutMs) => it(name, test, timeoutMs),
  equal: (actual, expected) => expect(actual).toEqual(expected),
};
const logger = silentLogger;
const { HOLDFAST_KAFKA_BROKERS: brokers, HOLDFAST_RABBITMQ_URL: rabbitUrl, HOLDFAST_REDIS_URL: redisUrl } = process.env;

describe('memory', () => {
  let shared: MemoryBroker | undefined;
  brokerContract(
    {
      // One broker per process: its connections share it, and it ends with the test.
      connect: () => {
        const broker = (shared ??= memoryBroker({ logger }));
        const own: { close(): Promise<void> }[] = [];
        return {
          prefixPerKey: false,
          publish: broker.publish,
          deadLetters: broker.deadLetters,
          subscribe: async (...args) => {
            const subscription = await broker.subscribe(...args);
            own.push(subscription);
            return subscription;
          },
          close: async () => {
            for (const subscription of own) await subscription.close();
          },
        };
      },
      createTopic: async () => undefined,
      oversizedBytes: undefined,
      unroutable: 'backpressure',
      dead: async (topic) => (shared?.dead ?? []).filter(({ message }) => message.topic === topic).map(({ message }) => message.id),
    },
    api,
  );
});

describe.each(testDialects())('a table on $name', (dialect) => {
  let db: TestDatabase;
  beforeAll(async () => {
    db = await dialect.create();
    await migrate(db.knex, [coreSchema, brokerSchema]);
  });
  afterAll(async () => {
    await db?.drop();
  });
  brokerContract(
    {
      // SQLite has one writing connection per process.
      connect: () => databaseBroker({ knex: dialect.name === 'sqlite' ? db.knex : db.connect(), leaseMs: 1_000, logger }),
      createTopic: async () => undefined,
      oversizedBytes: 17 * 2 ** 20,
      unroutable: undefined,
      dead: async (topic, group) =>
        (await db.knex('broker_dead').where({ topic, group_name: group }).select('message_id')).map(
          ({ message_id }) => message_id as string,
        ),
    },
    api,
  );
});

describe.runIf(redisUrl)('Redis Streams', () => {
  const prefix = `t${uuidv7().slice(-8)}`;
  brokerContract(
    {
      connect: () => redis({ url: redisUrl ?? '', prefix, leaseMs: 1_000, logger }),
      createTopic: async () => undefined,
      oversizedBytes: 17 * 2 ** 20,
      unroutable: undefined,
      dead: async (topic) => {
        const client = new Redis(redisUrl ?? '');
        const entries = await client.xrange(`${prefix}:{${topic}}:dead`, '-', '+');
        client.disconnect();
        return entries.map(([, fields]) => JSON.parse(fields[1] ?? '{}').ce_id as string);
      },
    },
    api,
  );
});

describe.runIf(rabbitUrl)('RabbitMQ', () => {
  brokerContract(
    {
      connect: () => rabbitmq({ url: rabbitUrl ?? '', lanes: 4, queueType: 'classic', logger }),
      createTopic: async () => undefined,
      oversizedBytes: 17 * 2 ** 20,
      unroutable: 'poison',
      dead: async (topic, group) => {
        const connection = await connectAmqp(rabbitUrl ?? '');
        const channel = await connection.createChannel();
        const ids: string[] = [];
        for (let got = await channel.get(`${group}.${topic}.dead`); got; got = await channel.get(`${group}.${topic}.dead`))
          ids.push(got.properties.messageId as string);
        await connection.close();
        return ids;
      },
    },
    api,
  );
});

describe.runIf(brokers).each([
  { name: 'kafkajs', connect: () => kafka({ brokers: [brokers ?? ''], unknownTopicMs: 0, logger }) },
  { name: '@platformatic/kafka', connect: () => platformaticKafka({ brokers: [brokers ?? ''], unknownTopicMs: 0, logger }) },
])('Kafka through $name', ({ connect }) => {
  const client = new Kafka({ brokers: [brokers ?? ''], logLevel: logLevel.NOTHING });
  brokerContract(
    {
      connect,
      createTopic: async (topic) => {
        const admin = client.admin();
        await admin.connect();
        await admin.createTopics({
          waitForLeaders: true,
          topics: [
            { topic, numPartitions: 4 },
            { topic: `${topic}.dead`, numPartitions: 1 },
          ],
        });
        await admin.disconnect();
      },
      oversizedBytes: 2 * 2 ** 20,
      unroutable: 'poison',
      dead: async (topic) => {
        const consumer = client.consumer({ groupId: uuidv7() });
        const ids: string[] = [];
        await consumer.connect();
        await consumer.subscribe({ topic: `${topic}.dead`, fromBeginning: true });
        const first = new Promise<void>((resolve) => {
          void consumer.run({
            eachMessage: async ({ message }) => {
              ids.push(message.headers?.ce_id?.toString() ?? '');
              resolve();
            },
          });
        });
        await first;
        await consumer.disconnect();
        return ids;
      },
    },
    api,
  );
});
