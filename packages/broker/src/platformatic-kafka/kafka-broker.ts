import { guardLogger, type Logger, uuidv7 } from '@holdfast/core';
import type { BaseOptions } from '@platformatic/kafka';
import { checkedDeadLetters } from '../adapter/checked-dead-letters.ts';
import { handling } from '../adapter/handling.ts';
import { Subscriptions } from '../adapter/subscriptions.ts';
import { KafkaDeadLetters } from '../kafka-wire/kafka-dead-letters.ts';
import { UnknownTopics } from '../kafka-wire/unknown-topics.ts';
import type { Broker } from '../port/dead-letters.ts';
import { PlatformaticOffsets } from './kafka-offsets.ts';
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
  /**
   * The time, in ms, for which messages of a topic that does not exist are `retriable`: it may be being created. After that they are `poison`.
   * Default 60,000.
   */
  readonly unknownTopicMs?: number;
  readonly logger?: Logger;
}

/** Publishes to Kafka and reads from it, through @platformatic/kafka. */
export type PlatformaticKafkaBroker = Broker;

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
  const unknownTopics = new UnknownTopics(options.unknownTopicMs ?? 60_000);
  const publisher = new KafkaPublisher({ base, source, timeoutMs: options.publishTimeoutMs ?? 3_000, unknownTopics, logger });
  const subscriptions = new Subscriptions();
  const subscribe: Broker['subscribe'] = (topics, member, handler) => {
    const groupId = member.mode === 'broadcast' ? `${member.group}.${uuidv7()}` : member.group;
    return subscriptions.open(
      new KafkaSubscription({ ...member, base, topics, groupId, deadLetters: publisher, logger }, handling(member, handler, logger)),
    );
  };
  return {
    prefixPerKey: publisher.prefixPerKey,
    publish: (batch, publish) => publisher.publish(batch, publish),
    subscribe,
    deadLetters: checkedDeadLetters(new KafkaDeadLetters({ offsets: new PlatformaticOffsets(base), publisher, subscribe, logger })),
    async close() {
      await subscriptions.close();
      await publisher.close();
    },
  };
}
