import { guardLogger, type Logger } from '@holdfast/core';
import { type ChannelModel, connect } from 'amqplib';
import type { Publisher } from '../port/publisher.ts';
import type { Subscriber } from '../port/subscriber.ts';
import { Link } from './link.ts';
import { RabbitmqPublisher } from './rabbitmq-publisher.ts';
import { RabbitmqSubscription } from './rabbitmq-subscription.ts';

/** Options of a broker over RabbitMQ. Give `url` or `connection`. */
export interface RabbitmqOptions {
  /** The server's address, `amqp://…`. The connection is opened when first needed, and again after it was lost. */
  readonly url?: string;
  /** A connection of yours. `close` leaves it open, and it is not opened again after it was lost. */
  readonly connection?: ChannelModel;
  /** The name of this service, sent as `ce_source` with each message. Default `holdfast`. */
  readonly source?: string;
  /**
   * The time limit of a publish, in ms. After it the result is `retriable`, because it is unknown if the broker has the message. Default
   * 3,000.
   */
  readonly publishTimeoutMs?: number;
  /** Queues per group and topic for messages with keys. All services that share a topic need the same value. Default 8. */
  readonly lanes?: number;
  /**
   * The type of the group's queues. Quorum queues are replicated, and twice as fast as classic ones when confirms are pipelined. Default
   * `quorum`.
   */
  readonly queueType?: 'quorum' | 'classic';
  /** Lets a publish declare its topic's exchange. If `false`, a message to an exchange that does not exist is `poison`. Default `true`. */
  readonly assert?: boolean;
  /** The largest body in bytes. A message with a larger one is `poison`. Default 16 MiB. */
  readonly maxMessageBytes?: number;
  readonly logger?: Logger;
}

/** Publishes to RabbitMQ and reads from it, through amqplib. */
export type RabbitmqBroker = Publisher & Subscriber;

/** Creates a broker over RabbitMQ 3.10 or newer, through amqplib 2. */
export function rabbitmq(options: RabbitmqOptions): RabbitmqBroker {
  const logger = guardLogger(options.logger);
  const { connection: given } = options;
  const topology = { lanes: options.lanes ?? 8, queueType: options.queueType ?? 'quorum' } as const;
  const link = new Link({
    connect: async () => given ?? connect(options.url ?? '', { timeout: 5_000 }),
    owned: given === undefined,
    logger,
  });
  const publisher = new RabbitmqPublisher({
    link,
    source: options.source ?? 'holdfast',
    timeoutMs: options.publishTimeoutMs ?? 3_000,
    lanes: topology.lanes,
    assert: options.assert ?? true,
    maxMessageBytes: options.maxMessageBytes ?? 16 * 2 ** 20,
  });
  const subscriptions = new Set<RabbitmqSubscription>();
  return {
    prefixPerKey: publisher.prefixPerKey,
    publish: (batch, publish) => publisher.publish(batch, publish),
    async subscribe(topics, subscribe, handler) {
      const subscription = new RabbitmqSubscription({ ...subscribe, ...topology, link, topics, logger }, handler);
      subscriptions.add(subscription);
      await subscription.start();
      return subscription;
    },
    async close() {
      for (const subscription of subscriptions) await subscription.close();
      await publisher.close();
      await link.close();
    },
  };
}
