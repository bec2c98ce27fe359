import { guardLogger, type Logger, uuidv7 } from '@holdfast/core';
import { Kafka, type KafkaConfig, logLevel } from 'kafkajs';
import { checkedDeadLetters } from '../adapter/checked-dead-letters.ts';
import { handling } from '../adapter/handling.ts';
import { Subscriptions } from '../adapter/subscriptions.ts';
import { KafkaDeadLetters } from '../kafka-wire/kafka-dead-letters.ts';
import { UnknownTopics } from '../kafka-wire/unknown-topics.ts';
import type { Broker } from '../port/dead-letters.ts';
import { KafkajsOffsets } from './kafka-offsets.ts';
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
  /**
   * The time, in ms, for which messages of a topic that does not exist are `retriable`: it may be being created. After that they are `poison`.
   * Default 60,000.
   */
  readonly unknownTopicMs?: number;
  readonly logger?: Logger;
}

/** Publishes to Kafka and reads from it, through kafkajs. */
export type KafkaBroker = Broker;

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
  const unknownTopics = new UnknownTopics(options.unknownTopicMs ?? 60_000);
  const publisher = new KafkaPublisher({ client, source, timeoutMs: options.publishTimeoutMs ?? 3_000, unknownTopics, logger });
  const subscriptions = new Subscriptions();
  const subscribe: Broker['subscribe'] = (topics, member, handler) => {
    const groupId = member.mode === 'broadcast' ? `${member.group}.${uuidv7()}` : member.group;
    return subscriptions.open(
      new KafkaSubscription({ ...member, client, topics, groupId, deadLetters: publisher, logger }, handling(member, handler, logger)),
    );
  };
  return {
    prefixPerKey: publisher.prefixPerKey,
    publish: (batch, publish) => publisher.publish(batch, publish),
    subscribe,
    deadLetters: checkedDeadLetters(new KafkaDeadLetters({ offsets: new KafkajsOffsets(client), publisher, subscribe, logger })),
    async close() {
      await subscriptions.close();
      await publisher.close();
    },
  };
}
