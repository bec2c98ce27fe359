import { type Logger, settledWithin, wait } from '@holdfast/core';
import type { Channel, ChannelModel, ConsumeMessage } from 'amqplib';
import { fromHeaders } from '../adapter/cloud-events.ts';
import type { Handle } from '../adapter/handling.ts';
import { keepOpen } from '../adapter/keep-open.ts';
import { KeyedRunner } from '../adapter/keyed-runner.ts';
import type { MemberOptions } from '../adapter/member-options.ts';
import type { StartableSubscription } from '../adapter/subscriptions.ts';
import type { Message } from '../port/message.ts';
import { type DeliveryVerdict, retry } from '../port/subscriber.ts';
import type { Link } from './link.ts';
import type { Declare, QueueWriter } from './queue-writer.ts';
import { isPermanent } from './rabbitmq-refusal.ts';
import { attemptHeader, delayHeader, messageHeaders, withoutAdded } from './received-headers.ts';
import {
  assertBroadcast,
  assertDead,
  assertDelay,
  assertGroup,
  assertTopic,
  deadSuffix,
  delayPart,
  queueName,
  type TopologyOptions,
} from './topology.ts';

export interface RabbitmqSubscriptionOptions extends MemberOptions, TopologyOptions {
  /** The connection for consuming. Nothing is published on it. */
  readonly link: Link;
  /** Writes retries and dead letters, on the connection for publishing. */
  readonly writer: QueueWriter;
  readonly topics: readonly string[];
  readonly logger: Logger;
}

/** A broadcast's messages may wait in the process, since its queue has no other consumer. */
const broadcastPrefetch = 1_000;
const goodbyeMs = 2_000;

/** One delivery of a message, on the channel that has to settle it. */
interface Received {
  readonly channel: Channel;
  readonly queue: string;
  readonly raw: ConsumeMessage;
  readonly message: Message;
}

/** Consumes a group's queues on a channel of its own. After a loss the channel is opened again and its queues are declared again. */
export class RabbitmqSubscription implements StartableSubscription {
  readonly #options: RabbitmqSubscriptionOptions;
  readonly #runner: KeyedRunner;
  readonly #closing = new AbortController();
  #channel: Channel | undefined;
  #tags: string[] = [];

  constructor(options: RabbitmqSubscriptionOptions, handle: Handle) {
    this.#options = options;
    this.#runner = new KeyedRunner({ concurrency: options.concurrency ?? 6, handle });
  }

  get ready(): boolean {
    return this.#channel !== undefined;
  }

  async start(): Promise<void> {
    const { link, topics, group, logger } = this.#options;
    await keepOpen({
      what: `RabbitMQ, the subscription of ${group} to ${topics.join(', ')}`,
      open: async () => this.#open(await link.connection()),
      isPermanent,
      signal: this.#closing.signal,
      logger,
    }).opened;
  }

  async close(): Promise<void> {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort(new Error('the subscription is closed'));
    const channel = this.#channel;
    await settledWithin(goodbyeMs, Promise.all(this.#tags.map((tag) => channel?.cancel(tag))));
    await this.#runner.close(this.#options.closeMs ?? 30_000);
    this.#channel = undefined;
    // Messages without a verdict go back to their queues.
    await settledWithin(goodbyeMs, channel?.close());
  }

  async #open(connection: ChannelModel): Promise<{ readonly ended: Promise<void> }> {
    const { topics, group, mode, concurrency = 6, logger } = this.#options;
    const channel = await connection.createChannel();
    const lost = new AbortController();
    channel.on('error', (err) => {
      // Before it is open, the call that fails reports it.
      if (this.#channel === channel)
        logger.warn({ err, group, topics }, 'RabbitMQ has closed the channel of a subscription; opening it again');
    });
    const ended = new Promise<void>((resolve) => {
      channel.on('close', () => {
        if (this.#channel === channel) this.#channel = undefined;
        // The server delivers these messages again, perhaps to another member: what waits here would come a second time, out of order.
        lost.abort(new Error('The channel of this delivery was closed; RabbitMQ delivers the message again.'));
        if (!this.#closing.signal.aborted) this.#runner.drop(({ signal }) => signal === lost.signal);
        resolve();
      });
    });
    try {
      await channel.prefetch(mode === 'broadcast' ? broadcastPrefetch : Math.max(1, concurrency));
      const tags: string[] = [];
      for (const topic of topics) {
        await assertTopic(channel, topic);
        const queues =
          mode === 'broadcast'
            ? [await assertBroadcast(connection, channel, group, topic, this.#options)]
            : await assertGroup(connection, channel, group, topic, this.#options);
        for (const queue of queues) {
          const { consumerTag } = await channel.consume(queue, (raw) => {
            // The server cancelled the consumer: its queue was deleted or has moved.
            if (raw === null) void channel.close().catch(() => undefined);
            else this.#received(channel, topic, queue, raw, lost.signal);
          });
          tags.push(consumerTag);
        }
      }
      this.#tags = tags;
    } catch (error) {
      void channel.close().catch(() => undefined);
      throw error;
    }
    if (this.#closing.signal.aborted) void channel.close().catch(() => undefined);
    else if (!lost.signal.aborted) this.#channel = channel;
    return { ended };
  }

  #received(channel: Channel, topic: string, queue: string, raw: ConsumeMessage, signal: AbortSignal): void {
    const { headers: all = {}, messageId } = raw.properties;
    const leftMs = Number(all[delayHeader] ?? 0);
    const headers = messageHeaders(raw.properties);
    const place = (messageId as string | undefined) ?? `${queue}/${raw.fields.deliveryTag}`;
    const received: Received = { channel, queue, raw, message: fromHeaders(headers, topic, place, raw.content) };
    if (leftMs > 0) return void this.#delayFurther(received, leftMs, signal);
    const redeliveries = Number(all['x-delivery-count'] ?? Number(raw.fields.redelivered));
    this.#runner.push({
      message: received.message,
      attempt: Number(all[attemptHeader] ?? 0) + redeliveries + 1,
      at: { queue, deliveryTag: raw.fields.deliveryTag },
      signal,
      settle: (verdict, attempt) => this.#settle(received, verdict, attempt, signal),
    });
  }

  /**
   * Settles a message. Its copy in the delay queue or among the dead letters is confirmed before the message is acked. If there can be no copy,
   * the message stays here and is handled again later.
   */
  async #settle(received: Received, verdict: DeliveryVerdict, attempt: number, signal: AbortSignal): Promise<DeliveryVerdict | undefined> {
    const { mode, logger } = this.#options;
    // The server delivers it again.
    if (signal.aborted) return undefined;
    // A delay queue can't send a message to one member of a broadcast after that has left.
    if (verdict.outcome === 'retry' && mode === 'broadcast') return verdict;
    try {
      if (verdict.outcome === 'retry') await this.#writeDelayed(received, verdict.afterMs, attempt);
      else if (verdict.outcome === 'reject') await this.#writeDead(received, verdict.reason);
    } catch (err) {
      if (signal.aborted) return undefined;
      const { id, topic } = received.message;
      logger.warn(
        { err, id, topic, verdict },
        'RabbitMQ did not take the copy of a retried or rejected message; it is handled again later',
      );
      return verdict.outcome === 'retry' ? verdict : retry(5_000);
    }
    this.#ack(received);
    return undefined;
  }

  /** Begins the next part of a delay that is longer than the longest delay queue. */
  async #delayFurther(received: Received, leftMs: number, signal: AbortSignal): Promise<void> {
    const attempt = Number(received.raw.properties.headers?.[attemptHeader] ?? 0);
    while (!signal.aborted && !this.#closing.signal.aborted) {
      try {
        await this.#writeDelayed(received, leftMs, attempt);
        return this.#ack(received);
      } catch (err) {
        this.#options.logger.warn({ err, id: received.message.id }, 'RabbitMQ did not take a delayed message back; trying again');
        await wait(5_000, AbortSignal.any([signal, this.#closing.signal])).catch(() => undefined);
      }
    }
  }

  #writeDelayed({ queue, raw }: Received, afterMs: number, attempt: number): Promise<void> {
    const { queueMs, leftMs } = delayPart(afterMs);
    const headers = { ...withoutAdded(raw.properties.headers), [attemptHeader]: String(attempt) };
    return this.#options.writer.write((channel) => assertDelay(channel, queue, queueMs, this.#options), raw.content, {
      ...raw.properties,
      headers: leftMs > 0 ? { ...headers, [delayHeader]: String(leftMs) } : headers,
    });
  }

  #writeDead({ raw, message }: Received, reason: string): Promise<void> {
    const { group, writer } = this.#options;
    const queue = queueName(group, message.topic, deadSuffix);
    const declare: Declare = async (channel, connection) => {
      await assertDead(connection, channel, queue, this.#options);
      return queue;
    };
    return writer.write(declare, raw.content, {
      ...raw.properties,
      headers: { ...withoutAdded(raw.properties.headers), 'x-dead-reason': reason },
    });
  }

  #ack({ channel, raw, message }: Received): void {
    try {
      channel.ack(raw);
    } catch (err) {
      // The channel was lost, so the server delivers the message again.
      this.#options.logger.debug({ err, id: message.id }, 'a verdict did not reach RabbitMQ');
    }
  }
}
