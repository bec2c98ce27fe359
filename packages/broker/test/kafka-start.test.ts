import { silentLogger } from '@holdfast/core';
import type { Kafka } from 'kafkajs';
import { expect, it } from 'vitest';
import { ack, type Publisher } from '../src/index.ts';
import { KafkaSubscription } from '../src/kafka/kafka-subscription.ts';

it('ends a start that is closed before the group has let the member in', async () => {
  const consumer = {
    events: {},
    on: () => undefined,
    connect: async () => undefined,
    subscribe: async () => undefined,
    run: () => subscription.close(),
    disconnect: async () => undefined,
  };
  const client = { consumer: () => consumer } as unknown as Kafka;
  const options = { client, topics: ['t'], group: 'g', groupId: 'g', deadLetters: {} as Publisher, logger: silentLogger };
  const subscription: KafkaSubscription = new KafkaSubscription(options, async () => ack);
  await subscription.start();
  expect(subscription.ready).toBe(false);
}, 5_000);
