import { defaultLogger, type Logger, uuidv7 } from '@holdfast/core';
import type { BaseOptions } from '@platformatic/kafka';
import type { Publisher } from '../port/publisher.ts';
import type { Subscriber } from '../port/subscriber.ts';
import { KafkaPublisher } from './kafka-publisher.ts';
import { KafkaSubscription } from './kafka-subscription.ts';

/** Where Kafka is, and how it is spoken to through @platformatic/kafka. */
export interface PlatformaticKafkaOptions {
  /** `host:port`. */
  readonly brokers: readonly string[];
  readonly tls?: BaseOptions['tls'];
  readonly sasl?: BaseOptions['sasl'];
  /** Names this service, in Kafka's logs and as `ce_source`. Default `holdfast`. */
  readonly source?: string;
  /** How long a publish may take before its outcome counts as unknown, in ms. Default 3,000. */
  readonly publishTimeoutMs?: number;
  readonly logger?: Logger;
}

/** Publishes to Kafka and reads from it, through @platformatic/kafka. */
export type PlatformaticKafkaBroker = Publisher & Subscriber;

/** Kafka through `@platformatic/kafka` 2. Topics, and `<topic>.dead` for what is rejected, must exist. */
export function platformaticKafka(options: PlatformaticKafkaOptions): PlatformaticKafkaBroker {
  const logger = options.logger ?? defaultLogger;
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
