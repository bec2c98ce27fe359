import { silentLogger, uuidv7 } from '@holdfast/core';
import { until } from '@holdfast/core/testing';
import { type Channel, type ChannelModel, connect } from 'amqplib';
import { describe, expect, it } from 'vitest';
import { ack, type Message, reject, retry } from '../src/index.ts';
import { rabbitmq } from '../src/rabbitmq/index.ts';
import { delayPart } from '../src/rabbitmq/topology.ts';

const { HOLDFAST_RABBITMQ_URL: url = '' } = process.env;
const logger = silentLogger;

function message(topic: string, fields: Partial<Message> = {}): Message {
  return { id: uuidv7(), topic, headers: {}, body: new Uint8Array(1), contentType: 'text/plain', ...fields };
}

/** A connection, and the channels that were opened on it. */
async function watched(): Promise<{ readonly connection: ChannelModel; readonly channels: Channel[] }> {
  const connection = await connect(url);
  const channels: Channel[] = [];
  for (const name of ['createChannel', 'createConfirmChannel'] as const) {
    const create = connection[name].bind(connection) as () => Promise<never>;
    connection[name] = async () => {
      const channel = await create();
      channels.push(channel);
      return channel;
    };
  }
  return { connection, channels };
}

describe.runIf(url)('RabbitMQ', () => {
  it('publishes the other messages of a batch when an exchange exists in another shape, and refuses that one', async () => {
    const [good, bad] = [`good-${uuidv7()}`, `bad-${uuidv7()}`];
    const admin = await connect(url);
    const channel = await admin.createChannel();
    await channel.assertExchange(bad, 'fanout', { durable: true });
    const broker = rabbitmq({ url, lanes: 1, logger });
    await broker.subscribe([good], { group: good }, async () => ack);
    for (let i = 0; i < 3; i++) {
      const results = await broker.publish([message(good), message(bad), message(good, { key: 'k' })]);
      expect(results.map(({ outcome }) => outcome)).toEqual(['acked', 'poison', 'acked']);
    }
    await broker.close();
    await channel.deleteExchange(bad);
    await admin.close();
  });

  it('finds the message of a batch because of which the server closes the channel', async () => {
    const [good, gone] = [`good-${uuidv7()}`, `gone-${uuidv7()}`];
    const admin = await connect(url);
    const channel = await admin.createChannel();
    const broker = rabbitmq({ url, lanes: 1, logger });
    await broker.subscribe([good, gone], { group: good }, async () => ack);
    expect((await broker.publish([message(good), message(gone)])).map(({ outcome }) => outcome)).toEqual(['acked', 'acked']);
    // The publisher remembers that the exchange exists.
    await channel.deleteExchange(gone);
    const results = await broker.publish([message(good), message(gone), message(good), message(good)]);
    expect(results.map(({ outcome }) => outcome)).toEqual(['acked', 'poison', 'acked', 'acked']);
    await broker.close();
    await admin.close();
  });

  it('refuses a message that the protocol can not carry, and publishes the others', async () => {
    const topic = `t-${uuidv7()}`;
    const broker = rabbitmq({ url, lanes: 1, logger });
    await broker.subscribe([topic], { group: topic }, async () => ack);
    const results = await broker.publish([
      message(topic),
      message(topic, { id: 'i'.repeat(256) }),
      message('t'.repeat(256)),
      message(topic, { contentType: 'c'.repeat(256) }),
      message(topic),
    ]);
    expect(results.map(({ outcome }) => outcome)).toEqual(['acked', 'poison', 'poison', 'poison', 'acked']);
    await broker.close();
  });

  it('adds no listener for a retry or a reject that it does not remove', async () => {
    const topic = `t-${uuidv7()}`;
    const [consuming, publishing] = [await watched(), await watched()];
    const broker = rabbitmq({ connection: consuming.connection, publishingConnection: publishing.connection, lanes: 1, logger });
    let handled = 0;
    await broker.subscribe([topic], { group: topic }, async ({ attempt }) => {
      handled += 1;
      return attempt === 1 ? retry(1) : reject('no');
    });
    await broker.publish(Array.from({ length: 30 }, () => message(topic)));
    await until(() => handled === 60);
    for (const channel of [...consuming.channels, ...publishing.channels]) expect(channel.listenerCount('close')).toBeLessThan(6);
    await broker.close();
    await consuming.connection.close();
    await publishing.connection.close();
  });

  it('never delivers a delayed message early, whatever the delay', () => {
    for (const afterMs of [0, 1, 100, 101, 7_200_000, 7_200_001, 18_000_000, 86_400_000 * 3]) {
      let waited = 0;
      for (let left = afterMs, parts = 0; ; parts++) {
        expect(parts).toBeLessThan(50);
        const { queueMs, leftMs } = delayPart(left);
        waited += queueMs;
        if (leftMs === 0) break;
        left = leftMs;
      }
      expect(waited).toBeGreaterThanOrEqual(afterMs);
      expect(waited).toBeLessThanOrEqual(Math.max(100, afterMs * 10));
      expect(waited).toBeLessThanOrEqual(afterMs + 7_200_000);
    }
  });

  it('waits for what is left of a delay before it delivers the message', async () => {
    const topic = `t-${uuidv7()}`;
    const broker = rabbitmq({ url, lanes: 1, logger });
    const seen: { readonly at: number; readonly attempt: number; readonly headers: object }[] = [];
    await broker.subscribe([topic], { group: topic }, async ({ attempt, message: { headers } }) => {
      seen.push({ at: performance.now(), attempt, headers });
      return ack;
    });
    const started = performance.now();
    // As it comes back from the first delay queue.
    await broker.publish([message(topic, { headers: { 'x-holdfast-delay': '450', 'x-holdfast-attempt': '2', 'x-own': 'yes' } })]);
    await until(() => seen.length > 0);
    expect(seen[0]?.at).toBeGreaterThanOrEqual(started + 450);
    expect(seen).toMatchObject([{ attempt: 3, headers: { 'x-own': 'yes' } }]);
    expect(Object.keys(seen[0]?.headers ?? {})).toEqual(['x-own']);
    await broker.close();
  });
});
