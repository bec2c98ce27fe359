import {
  checkMigrated,
  coreSchema,
  type DatabaseOptions,
  type Duration,
  defineLoop,
  durationMs,
  guardLogger,
  type Logger,
  openDatabase,
  type Waker,
  Wakers,
} from '@holdfast/core';
import { checkedDeadLetters } from '../adapter/checked-dead-letters.ts';
import { handling } from '../adapter/handling.ts';
import { Subscriptions } from '../adapter/subscriptions.ts';
import type { Broker } from '../port/dead-letters.ts';
import { DatabaseDeadLetters } from './database-dead-letters.ts';
import { DatabasePublisher } from './database-publisher.ts';
import { DatabaseSubscription } from './database-subscription.ts';
import { DatabaseTopics } from './database-topics.ts';
import { brokerSchema } from './schema.ts';

/** Options of a broker in your database. */
export interface DatabaseBrokerOptions extends DatabaseOptions {
  /** The name of this service, sent as `ce_source` with each message. Default `holdfast`. */
  readonly source?: string;
  /**
   * The time limit of a publish, in ms. After it the result is `retriable`, because it is unknown if the broker has the message. Default
   * 3,000.
   */
  readonly publishTimeoutMs?: number;
  /** The largest body in bytes. A message with a larger one is `poison`. Default 16 MiB. */
  readonly maxMessageBytes?: number;
  /** The lease of a lane, in ms. The lanes of a member that died are taken over after this time. Default 10,000. */
  readonly leaseMs?: number;
  /** Messages of a topic to which no group has ever subscribed are deleted after this time. Default 7 days. */
  readonly keepUnclaimed?: Duration;
  /**
   * Wakes members in other processes when messages are published. Default: LISTEN on PostgreSQL, the file's version on SQLite; on other
   * databases they poll each second.
   */
  readonly waker?: Waker;
  readonly logger?: Logger;
}

/** A broker in your database: it publishes, subscribes, and checks that its tables exist. */
export interface DatabaseBroker extends Broker {
  /**
   * Checks that the database is supported and the broker's tables exist. Call it at start-up.
   * @throws MigrationRequiredError, DatabaseUnavailableError, UnsupportedDatabaseError
   */
  check(): Promise<void>;
}

/**
 * Creates a broker whose messages are rows of your database: durable, shared by any number of processes, without another server. The
 * first group of a topic gets the messages that were published before it subscribed; each later group gets those published from then on.
 */
export function databaseBroker(options: DatabaseBrokerOptions): DatabaseBroker {
  const logger = guardLogger(options.logger);
  const database = openDatabase(options);
  const wakers = new Wakers({ database, channel: 'broker', waker: options.waker, logger });
  const topics = new DatabaseTopics(database);
  const keepMs = durationMs(options.keepUnclaimed ?? '7d', 'keepUnclaimed');
  const publisher = new DatabasePublisher({
    database,
    topics,
    wakers,
    source: options.source ?? 'holdfast',
    timeoutMs: options.publishTimeoutMs ?? 3_000,
    maxMessageBytes: options.maxMessageBytes ?? 16 * 2 ** 20,
  });
  const subscriptions = new Subscriptions();
  const purge = defineLoop({ name: 'broker purge', logger, runOnce: ({ signal }) => topics.purge(keepMs, signal), pauseMs: () => 60_000 });
  return {
    prefixPerKey: publisher.prefixPerKey,
    publish: (batch, publish) => publisher.publish(batch, publish),
    async subscribe(names, subscribe, handler) {
      const subscription = await subscriptions.open(
        new DatabaseSubscription(
          { ...subscribe, database, groups: topics, topics: names, wakers, leaseMs: options.leaseMs ?? 10_000, logger },
          handling(subscribe, handler, logger),
        ),
      );
      await purge.start();
      return subscription;
    },
    deadLetters: checkedDeadLetters(new DatabaseDeadLetters({ database, wakers })),
    async check() {
      await database.describe();
      await checkMigrated(database, [coreSchema, brokerSchema]);
    },
    async close() {
      await subscriptions.close();
      await purge.stop();
      await publisher.close();
      await wakers.close();
      await database.close();
    },
  };
}
