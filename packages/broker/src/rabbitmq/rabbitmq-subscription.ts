import type { Logger } from '@holdfast/core';
import type { ChannelModel, ConfirmChannel, ConsumeMessage } from 'amqplib';
import { fromHeaders } from '../adapter/cloud-events.ts';
import { KeyedRunner } from '../adapter/keyed-runner.ts';
import type { Message } from '../port/message.ts';
import type { Delivery, DeliveryVerdict, SubscribeOptions, Subscription } from '../port/subscriber.ts';
import type { Link } from './link.ts';
import { assertBroadcast, assertDelay, assertGroup, assertTopic, queueName, type TopologyOptions } from './topology.ts';

export interface RabbitmqSubscriptionOptions extends SubscribeOptions, TopologyOptions {
  readonly link: Link;
  readonly topics: readonly string[];
  readonly logger: Logger;
}

/** Consumes a group's queues on a channel of its own. After a loss the channel is opened again and its queues are declared again. */
export class RabbitmqSubscription implements Subscription {
  readonly #options: RabbitmqSubscriptionOptions;
  readonly #runner: KeyedRunner;
  #channel: ConfirmChannel | undefined;
  #tags: string[] = [];
  #stop: (() => void) | undefined;
  #closed = false;

  constructor(options: RabbitmqSubscriptionOptions, handler: (delivery: Delivery) => Promise<DeliveryVerdict>) {
    this.#options = options;
    this.#runner = new KeyedRunner({
      concurrency: options.concurrency ?? 6,
      retryMs: options.retryMs ?? 1_000,
      handler,
      onThrow: (err, { id, topic }) => options.logger.warn({ err, id, topic }, 'a handler threw; the message is delivered again'),
    });
  }

  get ready(): boolean {
    return this.#channel !== undefined;
  }

  async start(): Promise<void> {
    this.#stop = await this.#options.link.keepOpen((connection) => this.#open(connection));
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#stop?.();
    const channel = this.#channel;
    for (const tag of this.#tags) await channel?.cancel(tag).catch(() => undefined);
    await this.#runner.close(this.#options.closeMs ?? 30_000);
    this.#channel = undefined;
    // Messages without a verdict go back to their queues.
    await channel?.close().catch(() => undefined);
  }

  async #open(connection: ChannelModel): Promise<void> {
    const { topics, group, mode, concurrency = 6, lanes, logger } = this.#options;
    const channel = await connection.createConfirmChannel();
    channel.on('error', (err) => logger.debug({ err }, 'a RabbitMQ channel failed'));
    channel.on('close', () => {
      if (this.#channel !== channel) return;
      this.#channel = undefined;
      // A channel can close alone, as when a queue was deleted or a permission revoked.
      if (!this.#closed) setTimeout(() => void this.#reopen(), 1_000).unref();
    });
    await channel.prefetch(Math.max(1, concurrency));
    this.#tags = [];
    for (const topic of topics) {
      await assertTopic(channel, topic);
      const queues =
        mode === 'broadcast'
          ? [await assertBroadcast(channel, topic, lanes)]
          : await assertGroup(connection, channel, group, topic, this.#options);
      for (const queue of queues) {
        const { consumerTag } = await channel.consume(queue, (message) => {
          // The server cancelled the consumer: its queue was deleted or has moved.
          if (message === null) void channel.close().catch(() => undefined);
          else this.#received(channel, topic, queue, message);
        });
        this.#tags.push(consumerTag);
      }
    }
    this.#channel = channel;
  }

  async #reopen(): Promise<void> {
    if (this.#closed || this.#channel) return;
    this.#stop?.();
    this.#stop = await this.#options.link.keepOpen((connection) => (this.#channel ? Promise.resolve() : this.#open(connection)));
  }

  #received(channel: ConfirmChannel, topic: string, queue: string, received: ConsumeMessage): void {
    const headers: Record<string, string> = {};
    for (const [name, value] of Object.entries(received.properties.headers ?? {})) if (typeof value === 'string') headers[name] = value;
    const redeliveries = Number(received.properties.headers?.['x-delivery-count'] ?? Number(received.fields.redelivered));
    const retries = Number(headers['x-holdfast-attempt'] ?? 0);
    delete headers['x-holdfast-attempt'];
    headers['content-type'] ??= (received.properties.contentType as string | undefined) ?? 'application/octet-stream';
    const place = (received.properties.messageId as string | undefined) ?? `${queue}/${received.fields.deliveryTag}`;
    const message = fromHeaders(headers, topic, place, received.content);
    this.#runner.push({
      message,
      attempt: retries + redeliveries + 1,
      at: { queue, deliveryTag: received.fields.deliveryTag },
      settle: (verdict) => this.#settle(channel, queue, received, message, retries + 1, verdict),
    });
  }

  /** Settles a message. Its copy in the delay queue or among the dead letters is confirmed before the message is acked. */
  async #settle(
    channel: ConfirmChannel,
    queue: string,
    received: ConsumeMessage,
    message: Message,
    retries: number,
    verdict: DeliveryVerdict,
  ): Promise<void> {
    const { group, mode } = this.#options;
    try {
      const { headers, ...properties } = received.properties;
      if (verdict.outcome === 'retry') {
        const delay = await assertDelay(channel, queue, verdict.afterMs, this.#options);
        await send(channel, delay, received.content, { ...properties, headers: { ...headers, 'x-holdfast-attempt': String(retries) } });
      } else if (verdict.outcome === 'reject' && mode !== 'broadcast') {
        const dead = queueName(group, message.topic, 'dead');
        await send(channel, dead, received.content, { ...properties, headers: { ...headers, 'x-dead-reason': verdict.reason } });
      }
      channel.ack(received);
    } catch (err) {
      // The channel was lost, so the server delivers the message again.
      this.#options.logger.debug({ err, id: message.id }, 'a verdict did not reach RabbitMQ');
    }
  }
}

function send(channel: ConfirmChannel, queue: string, content: Buffer, properties: object): Promise<void> {
  return new Promise((resolve, reject) => {
    channel.once('close', () => reject(new Error('The channel was closed before RabbitMQ confirmed.')));
    channel.sendToQueue(queue, content, { ...properties, persistent: true }, (error) => (error ? reject(error) : resolve()));
  });
}
