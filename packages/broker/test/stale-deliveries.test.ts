import { silentLogger, uuidv7, wait } from '@holdfast/core';
import { tcpProxy, until } from '@holdfast/core/testing';
import { Redis } from 'ioredis';
import { Kafka, logLevel } from 'kafkajs';
import { describe, expect, it } from 'vitest';
import { ack, type Message } from '../src/index.ts';
import { kafka } from '../src/kafka/index.ts';
import { platformaticKafka } from '../src/platformatic-kafka/index.ts';
import { rabbitmq } from '../src/rabbitmq/index.ts';
import { redis } from '../src/redis/index.ts';

const { HOLDFAST_KAFKA_BROKERS: brokers, HOLDFAST_RABBITMQ_URL: rabbitUrl, HOLDFAST_REDIS_URL: redisUrl } = process.env;
const logger = silentLogger;

function numbered(topic: string, n: number, key = 'k'): Message {
  return { id: `${n}-${uuidv7()}`, topic, key, headers: {}, body: new Uint8Array(1), contentType: 'text/plain' };
}

it.runIf(rabbitUrl)('RabbitMQ: what waited on a lost connection is not delivered beside what the server delivers again', async () => {
  const target = new URL(rabbitUrl ?? '');
  const proxy = await tcpProxy({ host: target.hostname, port: Number(target.port) });
  target.port = String(proxy.port);
  const topic = `stale-${uuidv7().slice(-12)}`;
  const broker = rabbitmq({ url: target.href, lanes: 1, logger });
  const order: number[] = [];
  const signals: AbortSignal[] = [];
  const held = Promise.withResolvers<void>();
  const subscription = await broker.subscribe([topic], { group: 'g' }, async ({ message: { id }, signal }) => {
    order.push(Number(id.split('-')[0]));
    signals.push(signal);
    if (order.length === 1) await held.promise;
    return ack;
  });
  const batch = Array.from({ length: 6 }, (_, i) => numbered(topic, i + 1));
  for (const message of batch) expect((await broker.publish([message]))[0]?.outcome).toBe('acked');
  await until(() => order.length === 1);
  proxy.reset();
  await until(() => signals[0]?.aborted);
  await until(() => !subscription.ready);
  await until(() => subscription.ready);
  held.resolve();
  await until(() => order.includes(6));
  expect(order).toEqual([1, 1, 2, 3, 4, 5, 6]);
  await broker.close();
  await proxy.close();
});

it.runIf(redisUrl)('Redis: a lane that another member takes over aborts its delivery, and what waited is read again in order', async () => {
  const admin = new Redis(redisUrl ?? '');
  const [prefix, topic] = [`p${uuidv7().slice(-8)}`, 'orders'];
  const lane = `${prefix}:{${topic}}:0`;
  const broker = redis({ url: redisUrl ?? '', prefix, lanes: 1, leaseMs: 300, logger });
  const order: number[] = [];
  await broker.subscribe([topic], { group: 'g' }, async ({ message: { id }, signal }) => {
    order.push(Number(id.split('-')[0]));
    if (order.length === 1) await wait(600_000, signal);
    return ack;
  });
  await broker.publish([numbered(topic, 1)]);
  await broker.publish([numbered(topic, 2)]);
  await until(() => order.length === 1);
  // The lease of a member that read the lane while this one was paused; it handled nothing.
  await admin.set(`${prefix}:group:g:owner:${lane}`, 'another member', 'PX', 1_000);
  await until(() => order.length >= 3);
  expect(order).toEqual([1, 1, 2]);
  await broker.close();
  admin.disconnect();
});

describe.runIf(brokers).each([
  { name: 'kafkajs', connect: () => kafka({ brokers: [brokers ?? ''], logger }) },
  { name: '@platformatic/kafka', connect: () => platformaticKafka({ brokers: [brokers ?? ''], logger }) },
])('Kafka through $name', ({ connect }) => {
  it('a partition that another member takes over aborts its delivery, and no more of it is delivered here', async () => {
    const topic = `stale-${uuidv7().slice(-12)}`;
    const admin = new Kafka({ brokers: [brokers ?? ''], logLevel: logLevel.NOTHING }).admin();
    await admin.connect();
    await admin.createTopics({ waitForLeaders: true, topics: [{ topic, numPartitions: 2 }] });
    await admin.disconnect();
    const [one, two] = [connect(), connect()] as const;
    const held: { readonly place: string; readonly n: number; readonly signal: AbortSignal }[] = [];
    const seen: { readonly place: string; readonly n: number }[] = [];
    const end = new AbortController();
    await one.subscribe([topic], { group: topic }, async ({ message: { id }, at, signal }) => {
      held.push({ place: String(at.partition), n: Number(id.split('-')[0]), signal });
      await wait(600_000, AbortSignal.any([signal, end.signal])).catch(() => undefined);
      return ack;
    });
    const batch = Array.from({ length: 24 }, (_, i) => numbered(topic, i, `key-${i % 6}`));
    await until(async () => (await one.publish(batch)).every(({ outcome }) => outcome === 'acked'));
    await until(() => new Set(held.map(({ place }) => place)).size === 2);
    // Both partitions have a handler under way; one of them goes to the new member.
    await two.subscribe([topic], { group: topic }, async ({ message: { id }, at }) => {
      seen.push({ place: String(at.partition), n: Number(id.split('-')[0]) });
      return ack;
    });
    await until(() => seen.length > 0, { withinMs: 30_000 });
    const [{ place, n }] = seen as [{ place: string; n: number }];
    const here = held.filter((delivery) => delivery.place === place);
    expect(here.map((delivery) => delivery.n)).toEqual([n]);
    expect(here[0]?.signal.aborted).toBe(true);
    // The other one is still handled here, once.
    expect(held.filter((delivery) => delivery.place !== place)).toMatchObject([{ signal: { aborted: false } }]);
    end.abort();
    const kept = batch.length - seen.length;
    expect(kept).toBeGreaterThan(0);
    await until(() => seen.length + held.length - 1 >= batch.length);
    const all = [...seen, ...held.filter((delivery) => delivery.place !== place)];
    expect(all.map((delivery) => delivery.n).toSorted((a, b) => a - b)).toEqual(batch.map((_, i) => i));
    await one.close();
    await two.close();
  }, 60_000);
});
