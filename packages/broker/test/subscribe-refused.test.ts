import { coreSchema, migrate, uuidv7 } from '@holdfast/core';
import { openSqlite } from '@holdfast/core/sqlite';
import { until } from '@holdfast/core/testing';
import { connect } from 'amqplib';
import { Redis } from 'ioredis';
import { describe, expect, it } from 'vitest';
import { databaseBroker } from '../src/database/index.ts';
import { ack, type Subscriber } from '../src/index.ts';
import { kafka } from '../src/kafka/index.ts';
import { platformaticKafka } from '../src/platformatic-kafka/index.ts';
import { rabbitmq } from '../src/rabbitmq/index.ts';
import { redis } from '../src/redis/index.ts';

const { HOLDFAST_RABBITMQ_URL: rabbitUrl = '', HOLDFAST_REDIS_URL: redisUrl = '' } = process.env;

function recorder() {
  const warnings: string[] = [];
  const logger = {
    debug: () => undefined,
    info: () => undefined,
    warn: (_: object, text: string) => void warnings.push(text),
    error: (_: object, text: string) => void warnings.push(text),
  };
  return { warnings, logger };
}

async function refused(broker: Subscriber, topic = 't'): Promise<void> {
  const subscribing = broker.subscribe([topic], { group: 'g' }, async () => ack);
  await expect(subscribing).rejects.toMatchObject({ code: 'subscribe-refused' });
  await broker.close();
}

describe('a subscription that the broker refuses rejects', () => {
  it.runIf(rabbitUrl)('RabbitMQ: wrong password', () => {
    const wrong = new URL(rabbitUrl);
    wrong.password = 'wrong';
    return refused(rabbitmq({ url: wrong.href, logger: recorder().logger }));
  });

  it('RabbitMQ: an address that is none', () => refused(rabbitmq({ url: 'localhost', logger: recorder().logger })));

  it.runIf(rabbitUrl)('RabbitMQ: a topic or a queue that exists in another shape', async () => {
    const topic = `t-${uuidv7()}`;
    const admin = await connect(rabbitUrl);
    const channel = await admin.createChannel();
    await channel.assertExchange(topic, 'fanout', { durable: true });
    await refused(rabbitmq({ url: rabbitUrl, logger: recorder().logger }), topic);
    await channel.deleteExchange(topic);
    await channel.assertQueue(`g.${topic}`, { durable: true, arguments: { 'x-max-length': 5 } });
    await refused(rabbitmq({ url: rabbitUrl, logger: recorder().logger }), topic);
    await channel.deleteQueue(`g.${topic}`);
    await admin.close();
  });

  it.runIf(redisUrl)('Redis: wrong password, no permission', async () => {
    const admin = new Redis(redisUrl);
    const user = `u${uuidv7().slice(-8)}`;
    await admin.call('ACL', 'SETUSER', user, 'on', '>secret', '~*', '+ping', '+info', '+client', '+hello');
    const url = new URL(redisUrl);
    url.username = user;
    url.password = 'secret';
    await refused(redis({ url: url.href, logger: recorder().logger }));
    url.password = 'wrong';
    await refused(redis({ url: url.href, logger: recorder().logger }));
    await admin.call('ACL', 'DELUSER', user);
    admin.disconnect();
  });

  it('a database without the tables', async () => {
    const knex = openSqlite(':memory:');
    await migrate(knex, [coreSchema]);
    await refused(databaseBroker({ knex, logger: recorder().logger }));
    await knex.destroy();
  });
});

describe('a subscription whose broker can not be reached', () => {
  const closed = '127.0.0.1:1';
  it.each([
    ['RabbitMQ', (logger: never) => rabbitmq({ url: `amqp://${closed}`, logger })],
    // amqplib does not tell a missing virtual host from one that is starting, or from too many connections.
    ['RabbitMQ, a virtual host', (logger: never) => rabbitmq({ url: `${rabbitUrl || `amqp://${closed}`}/absent`, logger })],
    ['Redis', (logger: never) => redis({ url: `redis://${closed}`, logger })],
    ['kafkajs', (logger: never) => kafka({ brokers: [closed], logger })],
    ['@platformatic/kafka', (logger: never) => platformaticKafka({ brokers: [closed], logger })],
  ])('warns at the first failure, once, and keeps trying: %s', async (_, create) => {
    const { warnings, logger } = recorder();
    const broker = create(logger as never);
    const subscribing = broker.subscribe(['t'], { group: 'g' }, async () => ack);
    await until(() => warnings.some((message) => message.includes('g to t')), { withinMs: 15_000 });
    await broker.close();
    expect((await subscribing).ready).toBe(false);
    // One of the subscription, and at most one of each of its connections.
    expect(warnings.filter((message) => message.includes('g to t'))).toHaveLength(1);
    expect(warnings.length).toBeLessThan(4);
  });
});
