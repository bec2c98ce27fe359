import { defaultLogger, type Logger } from '@holdfast/core';
import { Redis } from 'ioredis';
import type { Publisher } from '../port/publisher.ts';
import type { Subscriber } from '../port/subscriber.ts';
import { RedisPublisher } from './redis-publisher.ts';
import { RedisSubscription } from './redis-subscription.ts';

/** Where Redis is, and how its streams are named and cut. */
export interface RedisOptions {
  /** `redis://…`. */
  readonly url?: string;
  /** Or a client of yours, which stays open. */
  readonly client?: Redis;
  /** Begins every key. Default `holdfast`. */
  readonly prefix?: string;
  /** Streams per topic; the same in all services that share a topic. Default 8. */
  readonly lanes?: number;
  /** Names this service as `ce_source`. Default `holdfast`. */
  readonly source?: string;
  /** Default 3,000 ms. */
  readonly publishTimeoutMs?: number;
  /** Larger bodies are poison. Default 16 MiB. */
  readonly maxMessageBytes?: number;
  /** About how many entries each stream keeps, read or not. Default: all; watch the memory. */
  readonly maxLength?: number;
  /** How long a lane stays a reader's without a sign of life. Default 10,000 ms. */
  readonly leaseMs?: number;
  readonly logger?: Logger;
}

/** Publishes to Redis Streams and reads from them, through ioredis. */
export type RedisBroker = Publisher & Subscriber;

/** Redis Streams through ioredis. As durable as your Redis is: with AOF `everysec` a crash may lose a second. */
export function redis(options: RedisOptions): RedisBroker {
  const logger = options.logger ?? defaultLogger;
  const layout = { prefix: options.prefix ?? 'holdfast', lanes: options.lanes ?? 8 };
  const source = options.source ?? 'holdfast';
  // What was not answered must not be sent again behind the caller's back, nor pile up while there is no connection.
  const client =
    options.client ??
    new Redis(options.url ?? 'redis://127.0.0.1', { autoResendUnfulfilledCommands: false, maxRetriesPerRequest: 1, connectTimeout: 2_000 });
  if (!options.client) client.on('error', (err) => logger.debug({ err }, 'the Redis connection failed; it connects again'));
  const publisher = new RedisPublisher({
    ...layout,
    client,
    source,
    timeoutMs: options.publishTimeoutMs ?? 3_000,
    maxMessageBytes: options.maxMessageBytes ?? 16 * 2 ** 20,
    maxLength: options.maxLength,
  });
  const subscriptions = new Set<RedisSubscription>();
  return {
    prefixPerKey: publisher.prefixPerKey,
    publish: (batch, publish) => publisher.publish(batch, publish),
    async subscribe(topics, subscribe, handler) {
      const subscription = new RedisSubscription(
        { ...layout, ...subscribe, client, topics, source, leaseMs: options.leaseMs ?? 10_000, logger },
        handler,
      );
      subscriptions.add(subscription);
      await subscription.start();
      return subscription;
    },
    async close() {
      for (const subscription of subscriptions) await subscription.close();
      if (!options.client) client.disconnect();
    },
  };
}
