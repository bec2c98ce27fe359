import { type Logger, uuidv7, type WakeListener, type Waker } from '@holdfast/core';
import type { Redis } from 'ioredis';

/** Where Redis is, and which channel wakes. */
export interface RedisWakerOptions {
  /** A connection to publish on. A second one, for listening, is made by `duplicate()`. */
  readonly client: Redis;
  /** Default `holdfast`. */
  readonly prefix?: string;
  readonly logger: Logger;
}

const maxNotes = 64;

/** Wake-ups over Redis pub/sub, coalesced for 2 ms. Losing all of them costs only speed. */
export function redisWaker(options: RedisWakerOptions): Waker {
  const { client, logger } = options;
  const name = `${options.prefix ?? 'holdfast'}:wake`;
  const self = uuidv7();
  const listeners = new Map<string, Set<WakeListener>>();
  const due = new Map<string, string[] | undefined>();
  const subscriber = client.duplicate({ maxRetriesPerRequest: null, autoResubscribe: true });
  let subscribed = false;
  let closed = false;
  subscriber.on('error', (err) => logger.debug({ err }, 'the Redis connection for wake-ups failed; it connects again'));
  subscriber.on('close', () => {
    subscribed = false;
  });
  subscriber.on('ready', () => {
    subscriber.subscribe(name).then(
      () => {
        subscribed = true;
        // Whatever was sent while nobody listened.
        for (const set of listeners.values()) for (const listener of set) queueMicrotask(() => listener([]));
      },
      (err) => logger.debug({ err }, 'Redis does not let us subscribe'),
    );
  });
  subscriber.on('message', (_channel, payload: string) => {
    const [sender, channel = '', ...notes] = payload.split('\n');
    if (sender === self) return;
    for (const listener of listeners.get(channel) ?? []) queueMicrotask(() => listener(notes));
  });
  const flush = (): void => {
    if (closed || client.status !== 'ready') return;
    const payloads = [...due].map(([channel, notes]) => [self, channel, ...(notes ?? [])].join('\n'));
    due.clear();
    for (const payload of payloads) client.publish(name, payload).catch((err) => logger.debug({ err }, 'a wake-up was not sent'));
  };
  // What could not be said while there was no connection: a listener that is back first takes silence for no news.
  client.on('ready', flush);
  return {
    get reliable() {
      return subscribed;
    },
    wake(channel, note) {
      if (due.size === 0) setTimeout(flush, 2).unref();
      const notes = due.has(channel) ? due.get(channel) : [];
      due.set(channel, note === undefined || notes === undefined || notes.length >= maxNotes ? undefined : [...notes, note]);
    },
    listen(channel, listener) {
      const set = listeners.get(channel) ?? new Set();
      listeners.set(channel, set);
      set.add(listener);
      return () => set.delete(listener);
    },
    async close() {
      closed = true;
      client.off('ready', flush);
      subscriber.disconnect();
    },
  };
}
