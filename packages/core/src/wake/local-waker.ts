import { ChannelListeners } from './channel-listeners.ts';
import type { Waker } from './waker.ts';

const wakers = new WeakMap<object, Waker>();

/** The waker of everything in this process that uses the same `key` (knex's client, as a rule). Always on. */
export function localWaker(key: object): Waker {
  const known = wakers.get(key);
  if (known) return known;
  const listeners = new ChannelListeners();
  const waker: Waker = {
    reliable: false,
    wake: (channel, note) => listeners.call(channel, note === undefined ? [] : [note]),
    listen: (channel, listener) => listeners.listen(channel, listener),
    close: async () => undefined,
  };
  wakers.set(key, waker);
  return waker;
}
