import { silentLogger } from '@holdfast/core';
import { until } from '@holdfast/core/testing';
import { expect, it } from 'vitest';
import { ack, reject } from '../src/index.ts';
import { memoryBroker } from '../src/memory/index.ts';

const message = { id: 'm', topic: 't', headers: {}, body: new Uint8Array(1), contentType: 'text/plain' };

it('keeps the dead letter of a broadcast until a member is there that it can be redriven to', async () => {
  const broker = memoryBroker({ logger: silentLogger });
  const letters = { topic: 't', group: 'g' };
  const member = await broker.subscribe(['t'], { group: 'g', mode: 'broadcast' }, async () => reject('no'));
  await broker.publish([message]);
  await member.close();
  await expect(broker.deadLetters.redrive(letters)).rejects.toMatchObject({
    code: 'invalid-argument',
    message: expect.stringMatching(/^Nothing subscribes to t as g; correct the name, or subscribe before the redrive/),
  });
  expect(await broker.deadLetters.list(letters)).toHaveLength(1);
  let handled = 0;
  await broker.subscribe(['t'], { group: 'g', mode: 'broadcast' }, async () => {
    handled += 1;
    return ack;
  });
  expect(await broker.deadLetters.redrive(letters)).toBe(1);
  await until(() => handled === 1);
  await broker.close();
});
