import { guardLogger, type Logger } from '@holdfast/core';
import { type ChannelModel, connect } from 'amqplib';
import { checkedDeadLetters } from '../adapter/checked-dead-letters.ts';
import { handling } from '../adapter/handling.ts';
import { Subscriptions } from '../adapter/subscriptions.ts';
import type { Broker } from '../port/dead-letters.ts';
import { Link } from './link.ts';
import { QueueWriter } from './queue-writer.ts';
import { RabbitmqDeadLetters } from './rabbitmq-dead-letters.ts';
import { RabbitmqPublisher } from './rabbitmq-publisher.ts';
import { RabbitmqSubscription } from './rabbitmq-subscription.ts';

/** Options of a broker over RabbitMQ. Give `url` or `connection`. */
export interface RabbitmqOptions {
  /** The server's address, `amqp://…`. The connection is opened when first needed, and again after it was lost. */
  readonly url?: string;
  /**
   * A connection of yours. `close` leaves it open, and it is not opened again after it was lost. It serves consumers, and publishers unless
   * there is a `publishingConnection`.
   */
  readonly connection?: ChannelModel;
  /**
   * A second connection of yours, for publishing. Give one if this broker both publishes and subscribes: during a memory or disk alarm,
   * RabbitMQ reads nothing from a connection that has published, so acks on the same one would wait, and nobody would drain the queues.
   */
  readonly publishingConnection?: ChannelModel;
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
export type RabbitmqBroker = Broker;

/** Creates a broker over RabbitMQ 3.10 or newer, through amqplib 2. */
export function rabbitmq(options: RabbitmqOptions): RabbitmqBroker {
  const logger = guardLogger(options.logger);
  const topology = { lanes: options.lanes ?? 8, queueType: options.queueType ?? 'quorum' } as const;
  const timeoutMs = options.publishTimeoutMs ?? 3_000;
  const linkTo = (given: ChannelModel | undefined): Link =>
    new Link({
      connect: async () => given ?? connect(options.url ?? '', { timeout: 5_000 }),
      owned: given === undefined,
      logger,
    });
  // Two connections: see `publishingConnection`.
  const consuming = linkTo(options.connection);
  const publishing = linkTo(options.publishingConnection ?? options.connection);
  const writer = new QueueWriter({ link: publishing, timeoutMs });
  const publisher = new RabbitmqPublisher({
    link: publishing,
    source: options.source ?? 'holdfast',
    timeoutMs,
    lanes: topology.lanes,
    assert: options.assert ?? true,
    maxMessageBytes: options.maxMessageBytes ?? 16 * 2 ** 20,
  });
  const subscriptions = new Subscriptions();
  return {
    prefixPerKey: publisher.prefixPerKey,
    publish: (batch, publish) => publisher.publish(batch, publish),
    subscribe: (topics, subscribe, handler) =>
      subscriptions.open(
        new RabbitmqSubscription(
          { ...subscribe, ...topology, link: consuming, writer, topics, logger },
          handling(subscribe, handler, logger),
        ),
      ),
    deadLetters: checkedDeadLetters(new RabbitmqDeadLetters({ link: consuming, writer, lanes: topology.lanes })),
    async close() {
      await subscriptions.close();
      await publisher.close();
      await writer.close();
      await publishing.close();
      await consuming.close();
    },
  };
}
