import { ChannelListeners } from './channel-listeners.ts';
import type { Waker } from './waker.ts';

const wakers = new WeakMap<object, Waker>();

/** Returns the waker within this process for a `key`, as a rule the client of a knex. The same key gives the same waker. */
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
