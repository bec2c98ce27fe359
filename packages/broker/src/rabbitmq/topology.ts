import type { Logger } from '@holdfast/core';
import type { Channel, ChannelModel } from 'amqplib';
import { withoutDeliveryLimit } from './without-delivery-limit.ts';

export interface TopologyOptions {
  readonly lanes: number;
  readonly queueType: 'quorum' | 'classic';
}

/** The routing key of a lane, or of messages without a key. */
export function routingKey(lane: number | undefined): string {
  return lane === undefined ? '' : `k${lane}`;
}

export function queueName(group: string, topic: string, suffix: string = ''): string {
  return suffix === '' ? `${group}.${topic}` : `${group}.${topic}.${suffix}`;
}

/** Declares a topic, which is a durable direct exchange. */
export async function assertTopic(channel: Channel, topic: string): Promise<void> {
  await channel.assertExchange(topic, 'direct', { durable: true });
}

/**
 * Declares a group's queues for a topic and returns their names: one for messages without a key, which the members share, and one per
 * lane with a single active consumer, so that messages of a key are handled in order over all members. The price is that one member has
 * a lane's whole load.
 */
export async function assertGroup(
  connection: ChannelModel,
  channel: Channel,
  group: string,
  topic: string,
  options: TopologyOptions & { readonly logger: Logger },
): Promise<string[]> {
  const assertQueue = async (queue: string, args: Readonly<Record<string, unknown>>): Promise<void> => {
    await channel.assertQueue(queue, { durable: true, arguments: await withoutDeliveryLimit(connection, queue, args, options.logger) });
  };
  const type = { 'x-queue-type': options.queueType };
  const queues: string[] = [];
  for (let lane = -1; lane < options.lanes; lane++) {
    const key = routingKey(lane < 0 ? undefined : lane);
    const queue = queueName(group, topic, key);
    await assertQueue(queue, lane < 0 ? type : { ...type, 'x-single-active-consumer': true });
    await channel.bindQueue(queue, topic, key);
    queues.push(queue);
  }
  await assertQueue(queueName(group, topic, 'dead'), type);
  return queues;
}

/** Declares the queue of one member of a broadcast, which is deleted with its connection. */
export async function assertBroadcast(channel: Channel, topic: string, lanes: number): Promise<string> {
  const { queue } = await channel.assertQueue('', { exclusive: true, autoDelete: true });
  for (let lane = -1; lane < lanes; lane++) await channel.bindQueue(queue, topic, routingKey(lane < 0 ? undefined : lane));
  return queue;
}

const steps = [100, 500, 1_000, 5_000, 15_000, 60_000, 300_000, 1_800_000, 7_200_000];

/**
 * Declares a queue whose messages expire after the delay and then go back to `target`; no plugin is needed. Each delay has a queue of its
 * own, so delays are rounded up to a few steps. A queue that is not used is deleted.
 */
export async function assertDelay(channel: Channel, target: string, afterMs: number, options: TopologyOptions): Promise<string> {
  const ms = steps.find((step) => step >= afterMs) ?? steps.at(-1) ?? afterMs;
  const queue = `${target}.retry.${ms}`;
  await channel.assertQueue(queue, {
    durable: true,
    arguments: {
      'x-queue-type': options.queueType,
      'x-message-ttl': ms,
      'x-dead-letter-exchange': '',
      'x-dead-letter-routing-key': target,
      'x-expires': ms + 3_600_000,
      // Otherwise a message may be lost on its way to `target`.
      ...(options.queueType === 'quorum' ? { 'x-dead-letter-strategy': 'at-least-once', 'x-overflow': 'reject-publish' } : {}),
    },
  });
  return queue;
}
