import { guardLogger, type Logger, OutageLog } from '@holdfast/core';
import { Redis } from 'ioredis';
import { checkedDeadLetters } from '../adapter/checked-dead-letters.ts';
import { handling } from '../adapter/handling.ts';
import { Subscriptions } from '../adapter/subscriptions.ts';
import type { Broker } from '../port/dead-letters.ts';
import { RedisDeadLetters } from './redis-dead-letters.ts';
import { RedisPublisher } from './redis-publisher.ts';
import { RedisSubscription } from './redis-subscription.ts';

/** Options of a broker over Redis Streams. Give `url` or `client`. */
export interface RedisOptions {
  /** The server's address, `redis://…`. Default `redis://127.0.0.1`. */
  readonly url?: string;
  /**
   * A client of yours. `close` leaves it open. If it has no `reconnectOnError`, it gets one that reconnects after a `READONLY` reply: the server
   * was demoted.
   */
  readonly client?: Redis;
  /** Prefix of every key. Default `holdfast`. */
  readonly prefix?: string;
  /** Streams per topic, which bounds the members that read it at a time. All services that share a topic need the same value. Default 8. */
  readonly lanes?: number;
  /** The name of this service, sent as `ce_source` with each message. Default `holdfast`. */
  readonly source?: string;
  /**
   * The time limit of a publish, in ms. After it the result is `retriable`, because it is unknown if the broker has the message. Default
   * 3,000.
   */
  readonly publishTimeoutMs?: number;
  /** The largest body in bytes. A message with a larger one is `poison`. Default 16 MiB. */
  readonly maxMessageBytes?: number;
  /**
   * About how many entries each stream keeps. Older ones are deleted, also those that were not read. Default: all are kept; watch Redis'
   * memory.
   */
  readonly maxLength?: number;
  /** The lease of a lane, in ms. The lanes of a member that died are taken over after this time. Default 10,000. */
  readonly leaseMs?: number;
  readonly logger?: Logger;
}

/** Publishes to Redis Streams and reads from them, through ioredis. */
export type RedisBroker = Broker;

/**
 * Creates a broker over Redis Streams, through ioredis. It is as durable as your Redis: with AOF `everysec` a crash may lose one second.
 */
export function redis(options: RedisOptions): RedisBroker {
  const logger = guardLogger(options.logger);
  const layout = { prefix: options.prefix ?? 'holdfast', lanes: options.lanes ?? 8 };
  const source = options.source ?? 'holdfast';
  // A command without an answer must not be sent again without the caller's knowledge, and commands must not pile up while disconnected.
  const client =
    options.client ??
    new Redis(options.url ?? 'redis://127.0.0.1', { autoResendUnfulfilledCommands: false, maxRetriesPerRequest: 1, connectTimeout: 2_000 });
  // Its readers are duplicates of it, so they reconnect, too.
  client.options.reconnectOnError ??= isDemoted;
  if (!options.client) {
    const outage = new OutageLog(logger);
    client.on('error', (err) => outage.failed(err, 'the Redis connection failed; reconnecting'));
    client.on('ready', () => outage.works('Redis can be reached again'));
  }
  const publisher = new RedisPublisher({
    ...layout,
    client,
    source,
    timeoutMs: options.publishTimeoutMs ?? 3_000,
    maxMessageBytes: options.maxMessageBytes ?? 16 * 2 ** 20,
    maxLength: options.maxLength,
  });
  const subscriptions = new Subscriptions();
  return {
    prefixPerKey: publisher.prefixPerKey,
    publish: (batch, publish) => publisher.publish(batch, publish),
    subscribe: (topics, subscribe, handler) =>
      subscriptions.open(
        new RedisSubscription(
          { ...layout, ...subscribe, client, topics, source, leaseMs: options.leaseMs ?? 10_000, logger },
          handling(subscribe, handler, logger),
        ),
      ),
    deadLetters: checkedDeadLetters(new RedisDeadLetters({ ...layout, client, source })),
    async close() {
      await subscriptions.close();
      if (!options.client) client.disconnect();
    },
  };
}

/** After a failover the old master is a replica and keeps its connections; every write on them fails, for ever. The next connection may reach the new one. */
function isDemoted(error: Error): boolean {
  return error.message.includes('READONLY');
}
