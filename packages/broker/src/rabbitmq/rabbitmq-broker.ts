import { defaultLogger, type Logger } from '@holdfast/core';
import { type ChannelModel, connect } from 'amqplib';
import type { Publisher } from '../port/publisher.ts';
import type { Subscriber } from '../port/subscriber.ts';
import { Link } from './link.ts';
import { RabbitmqPublisher } from './rabbitmq-publisher.ts';
import { RabbitmqSubscription } from './rabbitmq-subscription.ts';

/** Where RabbitMQ is, and how its exchanges and queues are named. */
export interface RabbitmqOptions {
  /** `amqp://…`. */
  readonly url?: string;
  /** Or a connection of yours, which stays open; nobody opens it again when it is lost. */
  readonly connection?: ChannelModel;
  /** Names this service as `ce_source`. Default `holdfast`. */
  readonly source?: string;
  /** Default 3,000 ms. */
  readonly publishTimeoutMs?: number;
  /** Queues per group and topic for messages with keys. The same in all services that share a topic. Default 8. */
  readonly lanes?: number;
  /** Quorum queues are twice as fast as classic ones when confirms are pipelined. Default `quorum`. */
  readonly queueType?: 'quorum' | 'classic';
  /** Whether publishing declares a topic's exchange. Default true. */
  readonly assert?: boolean;
  /** Larger bodies are poison. Default 16 MiB. */
  readonly maxMessageBytes?: number;
  readonly logger?: Logger;
}

/** Publishes to RabbitMQ and reads from it, through amqplib. */
export type RabbitmqBroker = Publisher & Subscriber;

/** RabbitMQ 3.10 or newer through amqplib 2. */
export function rabbitmq(options: RabbitmqOptions): RabbitmqBroker {
  const logger = options.logger ?? defaultLogger;
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
