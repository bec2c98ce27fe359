import { silentLogger, uuidv7, wait } from '@holdfast/core';
import { type TcpProxy, tcpProxy, until } from '@holdfast/core/testing';
import { Redis } from 'ioredis';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ack, type Message, type Publisher, type Subscriber } from '../src/index.ts';
import { kafka } from '../src/kafka/index.ts';
import { rabbitmq } from '../src/rabbitmq/index.ts';
import { redis } from '../src/redis/index.ts';

const logger = silentLogger;
const { HOLDFAST_RABBITMQ_URL: rabbitUrl, HOLDFAST_REDIS_URL: redisUrl } = process.env;

function message(topic: string): Message {
  return { id: uuidv7(), topic, key: 'k', headers: {}, body: new Uint8Array(1), contentType: 'text/plain' };
}

// Kafka's clients follow the addresses that brokers advertise, past any proxy.
const proxied = [
  { name: 'Redis', url: redisUrl, connect: (url: string) => redis({ url, prefix: uuidv7().slice(-8), leaseMs: 1_000, logger }) },
  { name: 'RabbitMQ', url: rabbitUrl, connect: (url: string) => rabbitmq({ url, lanes: 1, queueType: 'classic', logger }) },
].filter(({ url }) => url !== undefined);

describe.each(proxied)('$name behind a network that breaks', ({ url, connect }) => {
  let proxy: TcpProxy;
  let broker: Publisher & Subscriber;
  beforeEach(async () => {
    const target = new URL(url ?? '');
    proxy = await tcpProxy({ host: target.hostname, port: Number(target.port) });
    target.port = String(proxy.port);
    proxy.set('refuse');
    broker = connect(target.href);
  });
  afterEach(async () => {
    proxy.set('none');
    await broker.close();
    await proxy.close();
  });

  it('starts without its broker, reports that nothing was sent, and recovers', async () => {
    const topic = `t-${uuidv7().slice(-8)}`;
    const seen: string[] = [];
    const subscribing = broker.subscribe([topic], { group: topic }, async ({ message: { id } }) => {
      seen.push(id);
      return ack;
    });
    const started = performance.now();
    const [result] = await broker.publish([message(topic)]);
    expect(result?.outcome).toBe('retriable');
    expect(performance.now() - started).toBeLessThan(4_000);
    proxy.set('none');
    const subscription = await subscribing;
    await until(() => subscription.ready);
    const sent = message(topic);
    await until(async () => (await broker.publish([sent]))[0]?.outcome === 'acked');
    await until(() => seen.includes(sent.id));
    await subscription.close();
  });

  it('bounds a publish over a connection that is half open', async () => {
    const topic = `t-${uuidv7().slice(-8)}`;
    proxy.set('none');
    const subscription = await broker.subscribe([topic], { group: topic }, async () => ack);
    await until(async () => (await broker.publish([message(topic)]))[0]?.outcome === 'acked');
    proxy.set('stall');
    const started = performance.now();
    const results = await broker.publish([message(topic), message(topic)]);
    expect(results.map(({ outcome }) => outcome)).toEqual(['retriable', 'retriable']);
    expect(performance.now() - started).toBeLessThan(4_000);
    proxy.set('none');
    await until(async () => (await broker.publish([message(topic)]))[0]?.outcome === 'acked');
    await subscription.close();
  });

  it('bounds a publish to a new topic over a connection that is half open', async () => {
    const topic = `t-${uuidv7().slice(-8)}`;
    proxy.set('none');
    const subscription = await broker.subscribe([topic], { group: topic }, async () => ack);
    await until(async () => (await broker.publish([message(topic)]))[0]?.outcome === 'acked');
    proxy.set('stall');
    const started = performance.now();
    const results = await broker.publish([message(`${topic}-new`), message(topic)]);
    expect(results.map(({ outcome }) => outcome)).toEqual(['retriable', 'retriable']);
    expect(performance.now() - started).toBeLessThan(4_000);
    proxy.set('none');
    await until(async () => (await broker.publish([message(topic)]))[0]?.outcome === 'acked');
    await subscription.close();
  });
});

describe('errors that a person must fix', () => {
  it.runIf(rabbitUrl)('RabbitMQ: wrong credentials are fatal, a missing exchange is poison', async () => {
    const wrong = new URL(rabbitUrl ?? '');
    wrong.password = 'wrong';
    const stranger = rabbitmq({ url: wrong.href, logger });
    expect((await stranger.publish([message('t')]))[0]?.outcome).toBe('fatal');
    await stranger.close();
    const strict = rabbitmq({ url: rabbitUrl ?? '', assert: false, logger });
    expect((await strict.publish([message(`absent-${uuidv7()}`)]))[0]?.outcome).toBe('poison');
    await strict.close();
  });

  it.runIf(redisUrl)('Redis: a missing permission is fatal', async () => {
    const admin = new Redis(redisUrl ?? '');
    const user = `u${uuidv7().slice(-8)}`;
    await admin.call('ACL', 'SETUSER', user, 'on', '>secret', '~*', '+ping', '+info', '+client');
    const url = new URL(redisUrl ?? '');
    url.username = user;
    url.password = 'secret';
    const stranger = redis({ url: url.href, logger });
    expect((await stranger.publish([message('t')]))[0]?.outcome).toBe('fatal');
    await stranger.close();
    await admin.call('ACL', 'DELUSER', user);
    admin.disconnect();
  });

  it('Kafka: an unreachable broker is retriable, within the time-out', async () => {
    const broker = kafka({ brokers: ['127.0.0.1:1'], logger });
    const started = performance.now();
    expect((await broker.publish([message('t')]))[0]?.outcome).toBe('retriable');
    expect(performance.now() - started).toBeLessThan(4_000);
    const subscribing = broker.subscribe(['t'], { group: 'g' }, async () => ack);
    await wait(200);
    // Closing ends a subscription that still tries to start.
    await broker.close();
    expect((await subscribing).ready).toBe(false);
  });
});
