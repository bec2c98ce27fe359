import type { Logger } from '@holdfast/core';
import type { Channel, ChannelModel } from 'amqplib';
import { withoutDeliveryLimit } from './without-delivery-limit.ts';

export interface TopologyOptions {
  readonly lanes: number;
  readonly queueType: 'quorum' | 'classic';
}

/** Where messages of a lane, or without a key, are routed. */
export function routingKey(lane: number | undefined): string {
  return lane === undefined ? '' : `k${lane}`;
}

export function queueName(group: string, topic: string, suffix: string = ''): string {
  return suffix === '' ? `${group}.${topic}` : `${group}.${topic}.${suffix}`;
}

/** A topic is a durable direct exchange. */
export async function assertTopic(channel: Channel, topic: string): Promise<void> {
  await channel.assertExchange(topic, 'direct', { durable: true });
}

/**
 * A group has, per topic, one queue for messages without a key, which its members share, and one per lane with a single
 * active consumer: so messages of a key are handled in order over all members, at the price that a lane's load stays with one
 * of them. Returns their names.
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

/** A queue of one member that ends with its connection, for a broadcast. */
export async function assertBroadcast(channel: Channel, topic: string, lanes: number): Promise<string> {
  const { queue } = await channel.assertQueue('', { exclusive: true, autoDelete: true });
  for (let lane = -1; lane < lanes; lane++) await channel.bindQueue(queue, topic, routingKey(lane < 0 ? undefined : lane));
  return queue;
}

const steps = [100, 500, 1_000, 5_000, 15_000, 60_000, 300_000, 1_800_000, 7_200_000];

/**
 * A queue whose messages go back to `target` when their time is over: no plugin is needed. Delays are rounded up to a few
 * steps, since each is a queue; one that nobody uses goes away.
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
      // Otherwise a message may be lost on its way from this queue to the other.
      ...(options.queueType === 'quorum' ? { 'x-dead-letter-strategy': 'at-least-once', 'x-overflow': 'reject-publish' } : {}),
    },
  });
  return queue;
}
