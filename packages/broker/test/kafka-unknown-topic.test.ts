import { silentLogger, uuidv7 } from '@holdfast/core';
import { until } from '@holdfast/core/testing';
import { Kafka, logLevel } from 'kafkajs';
import { describe, expect, it } from 'vitest';
import type { Message, Publisher } from '../src/index.ts';
import { kafka } from '../src/kafka/index.ts';
import { platformaticKafka } from '../src/platformatic-kafka/index.ts';

const { HOLDFAST_KAFKA_BROKERS: brokers = '' } = process.env;
const logger = silentLogger;

function message(topic: string): Message {
  return { id: uuidv7(), topic, key: 'k', headers: {}, body: new Uint8Array(1), contentType: 'text/plain' };
}

async function createTopic(topic: string): Promise<void> {
  const admin = new Kafka({ brokers: [brokers], logLevel: logLevel.NOTHING }).admin();
  await admin.connect();
  await admin.createTopics({ waitForLeaders: true, topics: [{ topic, numPartitions: 1 }] });
  await admin.disconnect();
}

describe.runIf(brokers).each([
  { name: 'kafkajs', connect: (unknownTopicMs?: number) => kafka({ brokers: [brokers], logger, ...given(unknownTopicMs) }) },
  {
    name: '@platformatic/kafka',
    connect: (unknownTopicMs?: number) => platformaticKafka({ brokers: [brokers], logger, ...given(unknownTopicMs) }),
  },
])('Kafka through $name', ({ connect }) => {
  const outcomes = async (publisher: Publisher, batch: readonly Message[]) =>
    (await publisher.publish(batch)).map(({ outcome }) => outcome);

  it('a topic that is being created costs no message, and holds up no other topic', async () => {
    const [late, there] = [`late-${uuidv7().slice(-12)}`, `there-${uuidv7().slice(-12)}`];
    await createTopic(there);
    const broker = connect();
    const batch = [message(there), message(late), message(there), message(late)];
    expect(await outcomes(broker, batch)).toEqual(['acked', 'retriable', 'acked', 'retriable']);
    await createTopic(late);
    await until(async () => (await outcomes(broker, [message(late)]))[0] === 'acked');
    await broker.close();
  });

  it('a topic that stays unknown makes its messages poison', async () => {
    const broker = connect(200);
    const absent = message(`absent-${uuidv7().slice(-12)}`);
    expect(await outcomes(broker, [absent])).toEqual(['retriable']);
    await until(async () => (await outcomes(broker, [absent]))[0] === 'poison');
    await broker.close();
  });
});

function given(unknownTopicMs: number | undefined) {
  return unknownTopicMs === undefined ? {} : { unknownTopicMs };
}
