import { uuidv7 } from '@holdfast/core';
import { until } from '@holdfast/core/testing';
import { connect } from 'amqplib';
import { expect, it } from 'vitest';
import { ack, retry } from '../src/index.ts';
import { rabbitmq } from '../src/rabbitmq/index.ts';

const { HOLDFAST_RABBITMQ_URL: url = '' } = process.env;

it.runIf(url)('a retry in a broadcast keeps the channel and its queue, and is not a queue of a reserved name', async () => {
  const topic = `broad-${uuidv7().slice(-12)}`;
  const warnings: string[] = [];
  const logger = {
    debug: () => undefined,
    info: () => undefined,
    warn: (_: object, text: string) => void warnings.push(text),
    error: () => undefined,
  };
  const connection = await connect(url);
  const broker = rabbitmq({ url, lanes: 2, logger });
  const log: string[] = [];
  const subscription = await broker.subscribe(
    [topic],
    { group: 'g', mode: 'broadcast', retryMs: 20 },
    async ({ message: { id }, attempt }) => {
      log.push(`${id.slice(0, 1)}:${attempt}`);
      if (id.startsWith('r') && attempt === 1) return retry(20);
      if (id.startsWith('t') && attempt === 1) throw new Error('thrown');
      return ack;
    },
  );
  const message = (letter: string) => ({
    id: `${letter}${uuidv7()}`,
    topic,
    headers: {},
    body: new Uint8Array(1),
    contentType: 'text/plain',
  });
  expect((await broker.publish([message('r'), message('t')])).map(({ outcome }) => outcome)).toEqual(['acked', 'acked']);
  await until(() => log.includes('r:2') && log.includes('t:2'));
  expect(subscription.ready).toBe(true);
  expect((await broker.publish([message('a')]))[0]?.outcome).toBe('acked');
  await until(() => log.includes('a:1'));
  expect(warnings.filter((text) => /channel/.test(text))).toEqual([]);
  await broker.close();
  await connection.close();
});
