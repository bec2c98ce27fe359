import { silentLogger, wait } from '@holdfast/core';
import { until } from '@holdfast/core/testing';
import { Kafka, logLevel } from 'kafkajs';
import { afterAll, beforeAll, describe, it } from 'vitest';
import { kafka as kafkaServer } from '../../../tooling/services/kafka.ts';
import { rabbitmq as rabbitmqServer } from '../../../tooling/services/rabbitmq.ts';
import { redis as redisServer } from '../../../tooling/services/redis.ts';
import { type ScratchServer, scratchServer } from '../../../tooling/services/scratch.ts';
import { kafka } from '../src/kafka/index.ts';
import { platformaticKafka } from '../src/platformatic-kafka/index.ts';
import { rabbitmq } from '../src/rabbitmq/index.ts';
import { redis } from '../src/redis/index.ts';
import { type BrokerUnderTest, brokerOutageContract } from '../src/testing/index.ts';

const logger = silentLogger;
const brokers = [
  {
    service: redisServer,
    client: 'ioredis',
    connect: (url: string) => redis({ url, prefix: 'outage', leaseMs: 1_000, logger }),
    createTopic: async () => undefined,
  },
  {
    service: rabbitmqServer,
    client: 'amqplib',
    connect: (url: string) => rabbitmq({ url, lanes: 2, logger }),
    createTopic: async () => undefined,
  },
  ...[
    { client: 'kafkajs', connect: (url: string) => kafka({ brokers: [url], logger }) },
    { client: '@platformatic/kafka', connect: (url: string) => platformaticKafka({ brokers: [url], logger }) },
  ].map(({ client, connect }) => ({
    service: kafkaServer,
    client,
    connect,
    createTopic: async (topic: string, url: string) => {
      const admin = new Kafka({ brokers: [url], logLevel: logLevel.NOTHING }).admin();
      await admin.connect();
      // Not `waitForLeaders`: on a server that has just started, kafkajs gives up when the topic is not in the metadata yet.
      await admin.createTopics({ waitForLeaders: false, topics: [{ topic, numPartitions: 2 }] });
      const hasLeaders = () =>
        admin.fetchTopicMetadata({ topics: [topic] }).then(
          ({ topics: [one] }) => one?.partitions.length === 2 && one.partitions.every(({ leader }) => leader >= 0),
          () => false,
        );
      await until(hasLeaders, { withinMs: 30_000, what: `the topic ${topic}` });
      await admin.disconnect();
    },
  })),
].filter(({ service }) => process.env[service.variable]);

describe.each(brokers)('$service.name through $client, frozen and killed', ({ service, client, connect, createTopic }) => {
  let server: ScratchServer;
  const name = `${service.name}-outage-${client.replaceAll(/\W/g, '')}`;
  beforeAll(async () => {
    server = await scratchServer(service, name);
  }, 180_000);
  afterAll(async () => {
    await server?.stop();
  });
  const under: BrokerUnderTest = {
    connect: () => connect(server.url),
    createTopic: (topic) => createTopic(topic, server.url),
    oversizedBytes: undefined,
    unroutable: undefined,
    dead: async () => [],
  };
  brokerOutageContract(
    {
      ...under,
      outage: async () => {
        await server.freeze(4_000);
        await wait(500);
        await server.kill();
        await wait(1_000);
        await server.start();
      },
    },
    { it: (title, test, timeoutMs) => it(title, test, timeoutMs), equal: () => undefined },
  );
});
