import { type Logger, uuidv7 } from '@holdfast/core';
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
  await assertDead(connection, channel, queueName(group, topic, deadSuffix), options);
  return queues;
}

/** The exchange through which dead letters of a broadcast reach its members. A group has none. */
export function redriveExchange(group: string, topic: string): string {
  return queueName(group, topic, 'redrive');
}

/**
 * Declares the queue of one member of a broadcast, which is deleted with its connection, the group's queue of dead letters, and the exchange
 * through which they are redriven. The queue has a name of ours: RabbitMQ reserves names that begin with `amq.`.
 */
export async function assertBroadcast(
  connection: ChannelModel,
  channel: Channel,
  group: string,
  topic: string,
  options: TopologyOptions & { readonly logger: Logger },
): Promise<string> {
  await assertDead(connection, channel, queueName(group, topic, deadSuffix), options);
  const { queue } = await channel.assertQueue(queueName(group, topic, `member.${uuidv7()}`), { exclusive: true, autoDelete: true });
  for (let lane = -1; lane < options.lanes; lane++) await channel.bindQueue(queue, topic, routingKey(lane < 0 ? undefined : lane));
  const redriven = redriveExchange(group, topic);
  // Not deleted with its last binding: that could be between these two calls of another member.
  await channel.assertExchange(redriven, 'fanout', { durable: true });
  await channel.bindQueue(queue, redriven, '');
  return queue;
}

/** The suffix of the queue that holds a group's dead letters of a topic. */
export const deadSuffix = 'dead';

/** Declares a queue of dead letters. */
export async function assertDead(
  connection: ChannelModel,
  channel: Channel,
  queue: string,
  options: TopologyOptions & { readonly logger: Logger },
): Promise<void> {
  const type = { 'x-queue-type': options.queueType };
  await channel.assertQueue(queue, { durable: true, arguments: await withoutDeliveryLimit(connection, queue, type, options.logger) });
}

const steps = [100, 500, 1_000, 5_000, 15_000, 60_000, 300_000, 1_800_000, 7_200_000] as const;
const longestMs = 7_200_000;

/** How a delay is waited for: first `queueMs` in a delay queue, then `leftMs` more. */
export interface DelayPart {
  readonly queueMs: number;
  readonly leftMs: number;
}

/**
 * The first part of a delay. Delays are rounded up to a few steps, since each has a queue of its own; a delay that is longer than the longest
 * step is waited for in several parts, so that no message comes early.
 */
export function delayPart(afterMs: number): DelayPart {
  const ms = Math.max(0, Math.ceil(afterMs));
  const queueMs = steps.find((step) => step >= ms) ?? longestMs;
  return { queueMs, leftMs: Math.max(0, ms - queueMs) };
}

/**
 * Declares a queue whose messages expire after `queueMs`, one of the steps, and then go back to `target`; no plugin is needed. A queue that is
 * not used is deleted, so it is declared again before each use.
 */
export async function assertDelay(channel: Channel, target: string, queueMs: number, options: TopologyOptions): Promise<string> {
  const queue = `${target}.retry.${queueMs}`;
  await channel.assertQueue(queue, {
    durable: true,
    arguments: {
      'x-queue-type': options.queueType,
      'x-message-ttl': queueMs,
      'x-dead-letter-exchange': '',
      'x-dead-letter-routing-key': target,
      'x-expires': queueMs + 3_600_000,
      // Otherwise a message may be lost on its way to `target`.
      ...(options.queueType === 'quorum' ? { 'x-dead-letter-strategy': 'at-least-once', 'x-overflow': 'reject-publish' } : {}),
    },
  });
  return queue;
}
