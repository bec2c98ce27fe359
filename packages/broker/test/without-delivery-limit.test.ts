import { EventEmitter } from 'node:events';
import { silentLogger } from '@holdfast/core';
import type { ChannelModel } from 'amqplib';
import { expect, it } from 'vitest';
import { withoutDeliveryLimit } from '../src/rabbitmq/without-delivery-limit.ts';

it('names a policy for each group, since a second one of the same name would replace the first', async () => {
  const channel = Object.assign(new EventEmitter(), {
    assertQueue: () =>
      Promise.reject(new Error("PRECONDITION_FAILED - inequivalent arg 'x-delivery-limit': received the value '-1' but current is none")),
  });
  const connection = { connection: { serverProperties: { version: '4.1.0' } }, createChannel: async () => channel };
  const policies: string[] = [];
  const logger = { ...silentLogger, warn: (_: object, text: string) => void policies.push(/set_policy (\S+ \S+)/.exec(text)?.[1] ?? '') };
  for (const group of ['billing', 'mail'])
    await withoutDeliveryLimit(connection as unknown as ChannelModel, `${group}.paid`, { 'x-queue-type': 'quorum' }, logger);
  expect(policies).toEqual([String.raw`holdfast-keep-billing '^billing\.'`, String.raw`holdfast-keep-mail '^mail\.'`]);
});
