import type { Publisher, Subscriber } from '@holdfast/broker';
import { kafka } from '@holdfast/broker/kafka';
import { rabbitmq } from '@holdfast/broker/rabbitmq';
import { redis } from '@holdfast/broker/redis';
import { coreSchema, migrate, silentLogger, uuidv7 } from '@holdfast/core';
import { type TestDatabase, testDialects, until } from '@holdfast/core/testing';
import { Kafka, logLevel } from 'kafkajs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { bizType, brokerHints, compensateBizSchema, createCompensateBiz } from '../src/index.ts';
import { any } from './suite-schema.ts';

const { HOLDFAST_KAFKA_BROKERS: brokers, HOLDFAST_RABBITMQ_URL: rabbitUrl, HOLDFAST_REDIS_URL: redisUrl } = process.env;
const logger = silentLogger;
const all: { name: string; there: boolean; connect: () => Publisher & Subscriber; createTopic?: (topic: string) => Promise<void> }[] = [
  { name: 'Redis', there: redisUrl !== undefined, connect: () => redis({ url: redisUrl ?? '', prefix: 'hints', logger }) },
  {
    name: 'RabbitMQ',
    there: rabbitUrl !== undefined,
    connect: () => rabbitmq({ url: rabbitUrl ?? '', lanes: 1, queueType: 'classic', logger }),
  },
  {
    name: 'Kafka',
    there: brokers !== undefined,
    connect: () => kafka({ brokers: [brokers ?? ''], logger }),
    createTopic: async (topic) => {
      const admin = new Kafka({ brokers: [brokers ?? ''], logLevel: logLevel.NOTHING }).admin();
      await admin.connect();
      await admin.createTopics({ waitForLeaders: true, topics: [{ topic, numPartitions: 1 }] });
      await admin.disconnect();
    },
  },
];

// MySQL and MariaDB have no other way to hear of another process's rows than to poll.
const dialect = testDialects().find(({ name }) => name === 'mysql' || name === 'mariadb');

describe.runIf(dialect).each(all.filter(({ there }) => there))('hints over $name', ({ connect, createTopic }) => {
  let db: TestDatabase;
  const closing: { close(): Promise<void> }[] = [];
  beforeEach(async () => {
    if (!dialect) return;
    db = await dialect.create();
    await migrate(db.knex, [coreSchema, compensateBizSchema]);
  });
  afterEach(async () => {
    for (const one of closing.splice(0).reverse()) await one.close();
    await db.drop();
  });
  const open = async (topic: string) => {
    const broker = connect();
    const hints = brokerHints(broker, { topic, group: topic, logger });
    const biz = createCompensateBiz({ knex: db.connect(), logger, hints, types: { step: bizType(any) } });
    closing.push(broker, hints, biz);
    return { broker, hints, biz };
  };

  it('run a row of another process by its id, and do no harm when they lie, repeat or get lost', async () => {
    const topic = `hints-${uuidv7().slice(-8)}`;
    await createTopic?.(topic);
    const submitter = await open(topic);
    const worker = await open(topic);
    const started = new Map<string, number>();
    worker.biz.handle('step', (_context, run) => {
      started.set(run.id, performance.now());
    });
    await worker.hints.ready;
    const service = worker.biz.worker();
    await service.start();
    const lags: number[] = [];
    const ids: string[] = [];
    for (let i = 0; i < 20; i++) {
      const submitted = performance.now();
      const { id } = await submitter.biz.now().submit('step', {});
      ids.push(id);
      await until(() => started.has(id));
      lags.push((started.get(id) ?? 0) - submitted);
    }
    // It polls every half second; a quarter on average.
    expect(lags.sort((a, b) => a - b)[10]).toBeLessThan(100);
    submitter.hints.send([
      { type: 'step', id: ids[0] ?? '' },
      { type: 'step', id: '999999999' },
      { type: 'nobody', id: ids[1] ?? '' },
    ]);
    // Lost: the row is there all the same.
    const [{ insertId }] = await db.knex.raw("INSERT INTO compensate_biz (biz_type, context) VALUES ('step', '{}')");
    await until(() => started.has(String(insertId)));
    expect(started.size).toBe(21);
    await service.stop();
  });

  it('cost the submitter nothing when the broker is gone', async () => {
    const topic = `hints-${uuidv7().slice(-8)}`;
    await createTopic?.(topic);
    const { broker, biz } = await open(topic);
    biz.handle('step', () => undefined);
    const service = biz.worker();
    await service.start();
    await broker.close();
    const started = performance.now();
    const { id } = await biz.now().submit('step', {});
    expect(performance.now() - started).toBeLessThan(500);
    await until(async () => (await db.knex('compensate_biz').where({ id, status: 'SUCCESS' })).length === 1);
    await service.stop();
  });
});
