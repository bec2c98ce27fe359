import { silentLogger, uuidv7 } from '@holdfast/core';
import { until } from '@holdfast/core/testing';
import { Kafka, logLevel } from 'kafkajs';
import { describe, expect, it } from 'vitest';
import { ack, reject } from '../src/index.ts';
import { kafka } from '../src/kafka/index.ts';
import { platformaticKafka } from '../src/platformatic-kafka/index.ts';

const { HOLDFAST_KAFKA_BROKERS: brokers } = process.env;

describe.runIf(brokers).each([
  { name: 'kafkajs', connect: () => kafka({ brokers: [brokers ?? ''], logger: silentLogger }) },
  { name: '@platformatic/kafka', connect: () => platformaticKafka({ brokers: [brokers ?? ''], logger: silentLogger }) },
])('dead letters in several partitions, through $name', ({ connect }) => {
  it('are redriven by their ids, soon, and the others are there afterwards', async () => {
    const topic = `parts-${uuidv7().slice(-12)}`;
    const admin = new Kafka({ brokers: [brokers ?? ''], logLevel: logLevel.NOTHING }).admin();
    await admin.connect();
    const topics = [topic, `${topic}.dead`].map((one) => ({ topic: one, numPartitions: 4 }));
    await admin.createTopics({ waitForLeaders: true, topics });
    await admin.disconnect();
    const broker = connect();
    await using closing = new AsyncDisposableStack();
    closing.defer(() => broker.close());
    let mended = false;
    const handled: string[] = [];
    await broker.subscribe([topic], { group: 'g' }, async ({ message: { id } }) => {
      if (!mended) return reject('no');
      handled.push(id);
      return ack;
    });
    const ids = Array.from({ length: 24 }, (_, i) => `m${String(i).padStart(2, '0')}`);
    const batch = ids.map((id, i) => ({ id, topic, key: `k${i % 8}`, headers: {}, body: new Uint8Array(1), contentType: 'text/plain' }));
    expect(new Set((await broker.publish(batch)).map(({ outcome }) => outcome))).toEqual(new Set(['acked']));
    const listed = async () => (await broker.deadLetters.list({ topic, group: 'g' })).map(({ message: { id } }) => id).sort();
    await until(async () => (await listed()).length === 24, { withinMs: 60_000 });
    mended = true;
    let left = ids;
    for (const chosen of [['m05'], ['m23', 'm00'], ['m06', 'm07', 'm08']]) {
      const before = performance.now();
      expect(await broker.deadLetters.redrive({ topic, group: 'g', ids: chosen })).toBe(chosen.length);
      expect(performance.now() - before).toBeLessThan(20_000);
      left = left.filter((id) => !chosen.includes(id));
      expect(await listed()).toEqual(left);
    }
    await until(() => handled.length === 6);
    expect(handled.toSorted()).toEqual(['m00', 'm05', 'm06', 'm07', 'm08', 'm23']);
    expect(await broker.deadLetters.redrive({ topic, group: 'g' })).toBe(18);
    expect(await listed()).toEqual([]);
  }, 150_000);
});
