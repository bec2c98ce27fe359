import { ChannelListeners, type Logger, OutageLog, WakeMessages, type Waker } from '@holdfast/core';
import type { Redis } from 'ioredis';

/** Options of a waker over Redis. */
export interface RedisWakerOptions {
  /** The connection to publish on. A second one, for listening, is made from it by `duplicate()`. */
  readonly client: Redis;
  /** Prefix of the channel's name. Wakers with the same prefix wake each other. Default `holdfast`. */
  readonly prefix?: string;
  readonly logger: Logger;
}

const maxNotes = 64;

/** Creates a waker that sends wake-ups over Redis pub/sub, coalesced for 2 ms. A lost wake-up costs latency only, since loops also poll. */
export function redisWaker(options: RedisWakerOptions): Waker {
  const { client, logger } = options;
  const name = `${options.prefix ?? 'holdfast'}:wake`;
  const listeners = new ChannelListeners();
  const subscriber = client.duplicate({ maxRetriesPerRequest: null, autoResubscribe: true });
  let subscribed = false;
  let closed = false;
  const outage = new OutageLog(logger);
  subscriber.on('error', (err) => outage.failed(err, 'the Redis connection for wake-ups failed; reconnecting. Work is found by polling'));
  subscriber.on('close', () => {
    subscribed = false;
  });
  subscriber.on('ready', () => {
    subscriber.subscribe(name).then(
      () => {
        subscribed = true;
        outage.works('wake-ups arrive over Redis again');
        // Wake-ups that were sent while this process was disconnected are lost: wake everything.
        listeners.callAll();
      },
      (err) => outage.failed(err, 'subscribing to wake-ups over Redis failed; trying again once it is reconnected'),
    );
  });
  subscriber.on('message', (_channel, payload: string) => {
    const message = messages.read(payload);
    if (message) listeners.call(message.channel, message.notes);
  });
  const flush = (): void => {
    if (closed || client.status !== 'ready') return;
    for (const payload of messages.take()) client.publish(name, payload).catch((err) => logger.debug({ err }, 'a wake-up was not sent'));
  };
  const messages = new WakeMessages(maxNotes, flush);
  // Send the wake-ups that were queued while disconnected, or a listener that reconnected first would miss them.
  client.on('ready', flush);
  return {
    get reliable() {
      return subscribed;
    },
    wake: (channel, note) => messages.add(channel, note),
    listen: (channel, listener) => listeners.listen(channel, listener),
    async close() {
      closed = true;
      client.off('ready', flush);
      subscriber.disconnect();
    },
  };
}
