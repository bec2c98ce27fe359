import { silentLogger, uuidv7 } from '@holdfast/core';
import { until } from '@holdfast/core/testing';
import { connect } from 'amqplib';
import { expect, it } from 'vitest';
import { ack, reject } from '../src/index.ts';
import { rabbitmq } from '../src/rabbitmq/index.ts';

const { HOLDFAST_RABBITMQ_URL: url = '' } = process.env;
const names = (): { topic: string; group: string } => ({ topic: `redrive-${uuidv7().slice(-12)}`, group: 'g' });
const message = (topic: string, id: string) => ({ id, topic, key: 'k', headers: {}, body: new Uint8Array(1), contentType: 'text/plain' });

it.runIf(url)('RabbitMQ: a redrive by ids leaves the others in a quorum queue, in their order, however often it is called', async () => {
  const { topic, group } = names();
  await using closing = new AsyncDisposableStack();
  const broker = rabbitmq({ url, lanes: 1, logger: silentLogger });
  closing.defer(() => broker.close());
  let mended = false;
  const handled: string[] = [];
  await broker.subscribe([topic], { group }, async ({ message: { id } }) => {
    if (!mended) return reject('no');
    handled.push(id);
    return ack;
  });
  const ids = ['a', 'b', 'c', 'd', 'e', 'f'];
  for (const id of ids) expect((await broker.publish([message(topic, id)]))[0]?.outcome).toBe('acked');
  const listed = async () => (await broker.deadLetters.list({ topic, group })).map(({ message: { id } }) => id);
  await until(async () => (await listed()).length === 6);
  mended = true;
  // More often than RabbitMQ 4 delivers a message of a quorum queue by default.
  for (let i = 0; i < 25; i++) expect(await broker.deadLetters.redrive({ topic, group, ids: ['nothing'] })).toBe(0);
  await until(async () => (await listed()).length === 6);
  expect(await broker.deadLetters.redrive({ topic, group, ids: ['e', 'b'] })).toBe(2);
  await until(() => handled.length === 2);
  expect(handled).toEqual(['b', 'e']);
  await until(async () => (await listed()).length === 4);
  expect(await listed()).toEqual(['a', 'c', 'd', 'f']);
});

it.runIf(url)(
  'RabbitMQ: a redrive for a broadcast without a member, or for a group of another name, says so and keeps the dead letter',
  async () => {
    const { topic, group } = names();
    await using closing = new AsyncDisposableStack();
    const broker = rabbitmq({ url, lanes: 1, logger: silentLogger });
    closing.defer(() => broker.close());
    const member = await broker.subscribe([topic], { group, mode: 'broadcast' }, async () => reject('no'));
    expect((await broker.publish([message(topic, 'a')]))[0]?.outcome).toBe('acked');
    const listed = async (of: string) => (await broker.deadLetters.list({ topic, group: of })).length;
    await until(async () => (await listed(group)) === 1);
    await member.close();
    const refusal = {
      code: 'invalid-argument',
      message: expect.stringMatching(/^Nothing subscribes to redrive-\w+ as \w+; correct the name/),
    };
    await expect(broker.deadLetters.redrive({ topic, group })).rejects.toMatchObject(refusal);
    await until(async () => (await listed(group)) === 1);
    // Dead letters of a group whose queues were deleted.
    const connection = await connect(url);
    closing.defer(() => connection.close());
    const channel = await connection.createConfirmChannel();
    await channel.assertQueue(`gone.${topic}.dead`);
    channel.sendToQueue(`gone.${topic}.dead`, Buffer.from('x'), { messageId: 'a' });
    await channel.waitForConfirms();
    await expect(broker.deadLetters.redrive({ topic, group: 'gone' })).rejects.toMatchObject(refusal);
    await until(async () => (await listed('gone')) === 1);
    expect(await broker.deadLetters.redrive({ topic, group: 'never' })).toBe(0);
  },
);
