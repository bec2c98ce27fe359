import type { Publisher, Subscriber } from '@holdfast/broker';
import { ack } from '@holdfast/broker';
import { kafka } from '@holdfast/broker/kafka';
import { platformaticKafka } from '@holdfast/broker/platformatic-kafka';
import { rabbitmq } from '@holdfast/broker/rabbitmq';
import { silentLogger, uuidv7 } from '@holdfast/core';
import { ProduceAcks, Producer } from '@platformatic/kafka';
import { type ChannelModel, type ConfirmChannel, connect } from 'amqplib';
import { Kafka, type Producer as KafkajsProducer, logLevel } from 'kafkajs';

/** A row of the message table. */
export interface BareMessage {
  readonly id: string;
  readonly key: string | undefined;
  readonly body: Uint8Array;
}

/** The headers that ours sends, so that all contestants send the same bytes. */
function headers(topic: string, { id }: BareMessage): Record<string, string> {
  return {
    ce_specversion: '1.0',
    ce_id: id,
    ce_type: topic,
    ce_source: 'holdfast',
    ce_time: '2026-01-01T00:00:00.000Z',
  };
}

/** A broker with a new topic, through our adapter, and through its own client as users write it. */
export interface Bench {
  readonly name: string;
  /** For {@link openBroker}. */
  readonly kind: 'kafkajs' | 'platformatic' | 'rabbitmq';
  readonly address: string;
  readonly topic: string;
  readonly ours: Publisher & Subscriber;
  /** Sends a batch in the way that is fastest for the client, and waits for the broker's ack. */
  readonly send: (batch: readonly BareMessage[]) => Promise<void>;
  readonly close: () => Promise<void>;
}

export function openBroker(kind: string, address: string): Publisher & Subscriber {
  if (kind === 'rabbitmq') return rabbitmq({ url: address, lanes: 4, logger: silentLogger });
  const options = { brokers: [address], logger: silentLogger };
  return kind === 'kafkajs' ? kafka(options) : platformaticKafka(options);
}

export async function kafkaBench(brokers: string, through: 'kafkajs' | 'platformatic'): Promise<Bench> {
  const topic = `bench-${uuidv7().slice(-12)}`;
  const client = new Kafka({ brokers: [brokers], logLevel: logLevel.NOTHING });
  const admin = client.admin();
  await admin.connect();
  await admin.createTopics({ waitForLeaders: true, topics: [{ topic, numPartitions: 8 }] });
  const ours = openBroker(through, brokers);
  const producer: KafkajsProducer = client.producer({ idempotent: true, allowAutoTopicCreation: false });
  await producer.connect();
  const bare =
    through === 'platformatic'
      ? new Producer({ clientId: 'raw', bootstrapBrokers: [brokers], idempotent: true, acks: ProduceAcks.ALL })
      : undefined;
  return {
    name: through === 'kafkajs' ? 'kafka' : 'platformatic-kafka',
    kind: through,
    address: brokers,
    topic,
    ours,
    send: async (batch) => {
      if (bare) {
        await bare.send({
          messages: batch.map((one) => ({
            topic,
            ...(one.key === undefined ? {} : { key: Buffer.from(one.key) }),
            value: one.body as Buffer,
            headers: new Map(
              Object.entries({ ...headers(topic, one), 'content-type': 'application/json' }).map(([name, value]) => [
                Buffer.from(name),
                Buffer.from(value),
              ]),
            ),
          })),
        });
        return;
      }
      await producer.sendBatch({
        acks: -1,
        topicMessages: [
          {
            topic,
            messages: batch.map((one) => ({
              key: one.key ?? null,
              value: one.body as Buffer,
              headers: { ...headers(topic, one), 'content-type': 'application/json' },
            })),
          },
        ],
      });
    },
    close: async () => {
      await ours.close();
      await producer.disconnect();
      await bare?.close();
      await admin.deleteTopics({ topics: [topic] });
      await admin.disconnect();
    },
  };
}

export async function rabbitmqBench(url: string): Promise<Bench> {
  const topic = `bench-${uuidv7().slice(-12)}`;
  const group = `${topic}-group`;
  const ours = openBroker('rabbitmq', url);
  // Creates the queues, which keep messages while no consumer reads.
  const subscription = await ours.subscribe([topic], { group }, async () => ack);
  await subscription.close();
  const connection: ChannelModel = await connect(url);
  const channel: ConfirmChannel = await connection.createConfirmChannel();
  let turn = 0;
  return {
    name: 'rabbitmq',
    kind: 'rabbitmq',
    address: url,
    topic,
    ours,
    send: async (batch) => {
      for (const one of batch) {
        // Spread over the same queues as ours.
        channel.publish(topic, one.key === undefined ? '' : `k${turn++ % 4}`, one.body as Buffer, {
          persistent: true,
          mandatory: true,
          messageId: one.id,
          contentType: 'application/json',
          headers: one.key === undefined ? headers(topic, one) : { ...headers(topic, one), ce_partitionkey: one.key },
        });
      }
      await channel.waitForConfirms();
    },
    close: async () => {
      for (const suffix of ['', '.k0', '.k1', '.k2', '.k3', '.dead']) await channel.deleteQueue(`${group}.${topic}${suffix}`);
      await channel.deleteExchange(topic);
      await connection.close();
      await ours.close();
    },
  };
}
