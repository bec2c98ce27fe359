import { uuidv7 } from '@holdfast/core';
import { until } from '@holdfast/core/testing';
import { connect } from 'amqplib';
import { describe, expect, it } from 'vitest';
import { rabbitmq } from '../src/rabbitmq/index.ts';

const { HOLDFAST_RABBITMQ_URL: url = '' } = process.env;

/** Receives a message and closes the connection without a verdict, as a killed process does. */
async function loseIt(queue: string, times: number): Promise<void> {
  for (let i = 0; i < times; i++) {
    const connection = await connect(url);
    const channel = await connection.createChannel();
    await channel.prefetch(1);
    await new Promise<void>((resolve) => void channel.consume(queue, () => resolve()));
    await connection.close();
  }
}

describe.runIf(url)('a message whose consumers die, over RabbitMQ', () => {
  const setUp = async (topic: string, warnings: string[] = []) => {
    const logger = {
      debug: () => undefined,
      info: () => undefined,
      warn: (_: object, text: string) => void warnings.push(text),
      error: () => undefined,
    };
    const broker = rabbitmq({ url, lanes: 1, logger });
    const got: number[] = [];
    const subscribe = () =>
      broker.subscribe([topic], { group: 'g', mode: 'group' }, async ({ attempt }) => {
        got.push(attempt);
        return { outcome: 'ack' };
      });
    await (await subscribe()).close();
    return { broker, got, subscribe };
  };
  const publish = (broker: ReturnType<typeof rabbitmq>, topic: string) =>
    broker.publish([{ id: uuidv7(), topic, headers: {}, body: new TextEncoder().encode('x'), contentType: 'text/plain' }], {
      signal: AbortSignal.timeout(5_000),
    });

  it('is delivered after fifty deaths', async () => {
    const topic = `dies-${uuidv7().slice(-12)}`;
    const { broker, got, subscribe } = await setUp(topic);
    expect((await publish(broker, topic))[0]).toMatchObject({ outcome: 'acked' });
    await loseIt(`g.${topic}`, 50);
    await using _ = await closing(subscribe());
    await until(() => got.length === 1);
    expect(got[0]).toBeGreaterThanOrEqual(2);
    await broker.close();
  });

  it('(control) is lost from a queue that was declared without the argument where RabbitMQ has a limit, and such a queue is used with a warning', async () => {
    const topic = `limited-${uuidv7().slice(-12)}`;
    const connection = await connect(url);
    const limited = Number.parseInt(String((connection.connection.serverProperties as { version?: string }).version), 10) >= 4;
    const channel = await connection.createChannel();
    // As an older version of the adapter declared them.
    for (const queue of [`g.${topic}`, `g.${topic}.k0`, `g.${topic}.dead`])
      await channel.assertQueue(queue, {
        durable: true,
        arguments: { 'x-queue-type': 'quorum', ...(queue.endsWith('k0') ? { 'x-single-active-consumer': true } : {}) },
      });
    const warnings: string[] = [];
    const { broker } = await setUp(topic, warnings);
    expect(warnings.filter((text) => text.includes('x-delivery-limit'))).toHaveLength(limited ? 3 : 0);
    expect((await publish(broker, topic))[0]).toMatchObject({ outcome: 'acked' });
    // One delivery and 20 redeliveries: the message is dropped after the 20th.
    await loseIt(`g.${topic}`, 21);
    await until(async () => (await channel.checkQueue(`g.${topic}`)).messageCount === (limited ? 0 : 1));
    await broker.close();
    await connection.close();
  });
});

async function closing(subscription: Promise<{ close(): Promise<void> }>): Promise<AsyncDisposable> {
  const one = await subscription;
  return { [Symbol.asyncDispose]: () => one.close() };
}
