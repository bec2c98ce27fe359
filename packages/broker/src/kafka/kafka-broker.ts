import { defaultLogger, type Logger, uuidv7 } from '@holdfast/core';
import { Kafka, type KafkaConfig, logLevel } from 'kafkajs';
import type { Publisher } from '../port/publisher.ts';
import type { Subscriber } from '../port/subscriber.ts';
import { KafkaPublisher } from './kafka-publisher.ts';
import { KafkaSubscription } from './kafka-subscription.ts';
import { quietRequestQueue } from './quiet-request-queue.ts';

// Also for clients of the caller's.
quietRequestQueue();

/** Where Kafka is, and how it is spoken to through kafkajs. */
export interface KafkaOptions {
  /** A client of yours, or what one is made of. */
  readonly client?: Kafka;
  readonly brokers?: readonly string[];
  readonly ssl?: KafkaConfig['ssl'];
  readonly sasl?: KafkaConfig['sasl'];
  /** Names this service, in Kafka's logs and as `ce_source`. Default `holdfast`. */
  readonly source?: string;
  /** How long a publish may take before its outcome counts as unknown, in ms. Default 3,000. */
  readonly publishTimeoutMs?: number;
  readonly logger?: Logger;
}

/** Publishes to Kafka and reads from it, through kafkajs. */
export type KafkaBroker = Publisher & Subscriber;

/** Kafka through kafkajs 2. Topics, and `<topic>.dead` for what is rejected, must exist. */
export function kafka(options: KafkaOptions): KafkaBroker {
  const logger = options.logger ?? defaultLogger;
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
