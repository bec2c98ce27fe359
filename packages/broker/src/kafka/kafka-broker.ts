import { guardLogger, type Logger, uuidv7 } from '@holdfast/core';
import { Kafka, type KafkaConfig, logLevel } from 'kafkajs';
import type { Publisher } from '../port/publisher.ts';
import type { Subscriber } from '../port/subscriber.ts';
import { KafkaPublisher } from './kafka-publisher.ts';
import { KafkaSubscription } from './kafka-subscription.ts';
import { quietRequestQueue } from './quiet-request-queue.ts';

// At import, so that it applies to clients of the caller's, too.
quietRequestQueue();

/** Options of a broker over Kafka, through kafkajs. Give `client` or `brokers`. */
export interface KafkaOptions {
  /** A client of yours. `brokers`, `ssl` and `sasl` are ignored then. */
  readonly client?: Kafka;
  /** The brokers to connect to first, as `host:port`. */
  readonly brokers?: readonly string[];
  /** TLS settings of kafkajs; `true` for its defaults. Default: no TLS. */
  readonly ssl?: KafkaConfig['ssl'];
  /** Credentials, as kafkajs takes them. Default: none. */
  readonly sasl?: KafkaConfig['sasl'];
  /** The name of this service: Kafka's client id, and sent as `ce_source` with each message. Default `holdfast`. */
  readonly source?: string;
  /**
   * The time limit of a publish, in ms. After it the result is `retriable`, because it is unknown if the broker has the message. Default
   * 3,000.
   */
  readonly publishTimeoutMs?: number;
  readonly logger?: Logger;
}

/** Publishes to Kafka and reads from it, through kafkajs. */
export type KafkaBroker = Publisher & Subscriber;

/** Creates a broker over Kafka, through kafkajs 2. Topics must exist, and so must `<topic>.dead` for rejected messages. */
export function kafka(options: KafkaOptions): KafkaBroker {
  const logger = guardLogger(options.logger);
  const source = options.source ?? 'holdfast';
  const client =
    options.client ??
    new Kafka({
      clientId: source,
      brokers: [...(options.brokers ?? [])],
      ...(options.ssl === undefined ? {} : { ssl: options.ssl }),
      ...(options.sasl === undefined ? {} : { sasl: options.sasl }),
      connectionTimeout: 2_000,
      retry: { initialRetryTime: 100, retries: 2 },
      logLevel: logLevel.NOTHING,
    });
  const publisher = new KafkaPublisher({ client, source, timeoutMs: options.publishTimeoutMs ?? 3_000, logger });
  const subscriptions = new Set<KafkaSubscription>();
  return {
    prefixPerKey: publisher.prefixPerKey,
    publish: (batch, publish) => publisher.publish(batch, publish),
    async subscribe(topics, subscribe, handler) {
      const groupId = subscribe.mode === 'broadcast' ? `${subscribe.group}.${uuidv7()}` : subscribe.group;
      const subscription = new KafkaSubscription({ ...subscribe, client, topics, groupId, deadLetters: publisher, logger }, handler);
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
