import { guardLogger, type Logger, uuidv7 } from '@holdfast/core';
import type { BaseOptions } from '@platformatic/kafka';
import type { Publisher } from '../port/publisher.ts';
import type { Subscriber } from '../port/subscriber.ts';
import { KafkaPublisher } from './kafka-publisher.ts';
import { KafkaSubscription } from './kafka-subscription.ts';

/** Options of a broker over Kafka, through @platformatic/kafka. */
export interface PlatformaticKafkaOptions {
  /** The brokers to connect to first, as `host:port`. */
  readonly brokers: readonly string[];
  /** TLS settings, as @platformatic/kafka takes them. Default: no TLS. */
  readonly tls?: BaseOptions['tls'];
  /** Credentials, as @platformatic/kafka takes them. Default: none. */
  readonly sasl?: BaseOptions['sasl'];
  /** The name of this service: Kafka's client id, and sent as `ce_source` with each message. Default `holdfast`. */
  readonly source?: string;
  /**
   * The time limit of a publish, in ms. After it the result is `retriable`, because it is unknown if the broker has the message. Default
   * 3,000.
   */
  readonly publishTimeoutMs?: number;
  readonly logger?: Logger;
}

/** Publishes to Kafka and reads from it, through @platformatic/kafka. */
export type PlatformaticKafkaBroker = Publisher & Subscriber;

/** Creates a broker over Kafka, through `@platformatic/kafka` 2. Topics must exist, and so must `<topic>.dead` for rejected messages. */
export function platformaticKafka(options: PlatformaticKafkaOptions): PlatformaticKafkaBroker {
  const logger = guardLogger(options.logger);
  const source = options.source ?? 'holdfast';
  const base: BaseOptions = {
    clientId: source,
    bootstrapBrokers: [...options.brokers],
    connectTimeout: 2_000,
    ...(options.tls === undefined ? {} : { tls: options.tls }),
    ...(options.sasl === undefined ? {} : { sasl: options.sasl }),
  };
  const publisher = new KafkaPublisher({ base, source, timeoutMs: options.publishTimeoutMs ?? 3_000, logger });
  const subscriptions = new Set<KafkaSubscription>();
  return {
    prefixPerKey: publisher.prefixPerKey,
    publish: (batch, publish) => publisher.publish(batch, publish),
    async subscribe(topics, subscribe, handler) {
      const groupId = subscribe.mode === 'broadcast' ? `${subscribe.group}.${uuidv7()}` : subscribe.group;
      const subscription = new KafkaSubscription({ ...subscribe, base, topics, groupId, deadLetters: publisher, logger }, handler);
      subscriptions.add(subscription);
      await subscription.start();
      return subscription;
    },
    async close() {
      for (const subscription of subscriptions) await subscription.close();
      await publisher.close();
    },
  };
}
