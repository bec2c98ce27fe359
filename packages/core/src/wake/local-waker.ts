import type { WakeListener, Waker } from './waker.ts';

const wakers = new WeakMap<object, Waker>();

/** The waker of everything in this process that uses the same `key` (knex's client, as a rule). Always on. */
export function localWaker(key: object): Waker {
  const known = wakers.get(key);
  if (known) return known;
  const listeners = new Map<string, Set<WakeListener>>();
  const waker: Waker = {
    reliable: false,
    wake(channel, note) {
      const notes = note === undefined ? [] : [note];
      for (const listener of listeners.get(channel) ?? []) queueMicrotask(() => listener(notes));
    },
    listen(channel, listener) {
      const set = listeners.get(channel) ?? new Set();
      listeners.set(channel, set);
      set.add(listener);
      return () => set.delete(listener);
    },
    close: async () => undefined,
  };
  wakers.set(key, waker);
  return waker;
}
