import {
  checkMigrated,
  coreSchema,
  type DatabaseOptions,
  type Duration,
  defaultLogger,
  defineLoop,
  durationMs,
  type Logger,
  openDatabase,
  type Waker,
  Wakers,
} from '@holdfast/core';
import type { Publisher } from '../port/publisher.ts';
import type { Subscriber } from '../port/subscriber.ts';
import { DatabasePublisher } from './database-publisher.ts';
import { DatabaseSubscription } from './database-subscription.ts';
import { DatabaseTopics } from './database-topics.ts';
import { brokerSchema } from './schema.ts';

/** Where the tables are, and how long readers hold lanes and unread messages are kept. */
export interface DatabaseBrokerOptions extends DatabaseOptions {
  /** Names this service as `ce_source`. Default `holdfast`. */
  readonly source?: string;
  /** Default 3,000 ms. */
  readonly publishTimeoutMs?: number;
  /** Larger bodies are poison. Default 16 MiB. */
  readonly maxMessageBytes?: number;
  /** How long a lane stays a reader's without a sign of life. Default 10,000 ms. */
  readonly leaseMs?: number;
  /** How long messages are kept of a topic that no group has ever subscribed to. Default 7 days. */
  readonly keepUnclaimed?: Duration;
  /** Tells readers in other processes of new messages. Default: LISTEN on Postgres, the file's version on SQLite; else they look each second. */
  readonly waker?: Waker;
  readonly logger?: Logger;
}

/** A broker that is a table: what publishes, what reads, and a check that its tables are there. */
export interface DatabaseBroker extends Publisher, Subscriber {
  /** @throws MigrationRequiredError, DatabaseUnavailableError, UnsupportedDatabaseError */
  check(): Promise<void>;
}

/**
 * A broker that is a table in your database: durable, over any number of processes, and nothing to run. A first group gets what was
 * published before it came, each later one what is published from then on.
 */
export function databaseBroker(options: DatabaseBrokerOptions): DatabaseBroker {
  const logger = options.logger ?? defaultLogger;
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
  const subscriptions = new Set<DatabaseSubscription>();
  const purge = defineLoop({ name: 'broker purge', logger, runOnce: () => topics.purge(keepMs), pauseMs: () => 60_000 });
  return {
    prefixPerKey: publisher.prefixPerKey,
    publish: (batch, publish) => publisher.publish(batch, publish),
    async subscribe(names, subscribe, handler) {
      const subscription = new DatabaseSubscription(
        { ...subscribe, database, groups: topics, topics: names, wakers, leaseMs: options.leaseMs ?? 10_000, logger },
        handler,
      );
      subscriptions.add(subscription);
      await subscription.start();
      await purge.start();
      return subscription;
    },
    async check() {
      await database.describe();
      await checkMigrated(database, [coreSchema, brokerSchema]);
    },
    async close() {
      for (const subscription of subscriptions) await subscription.close();
      await purge.stop();
      await publisher.close();
      await wakers.close();
      await database.close();
    },
  };
}
