import { callListener } from '../observe/call-listener.ts';
import { guardLogger } from '../observe/guard-logger.ts';
import type { WakeListener } from './waker.ts';

/** The listeners of a waker, by channel. Each runs in a microtask of its own, so that a listener that throws does not stop the others. */
export class ChannelListeners {
  readonly #listeners = new Map<string, Set<WakeListener>>();

  /** Adds a listener. Returns the function that removes it. */
  listen(channel: string, listener: WakeListener): () => boolean {
    const set = this.#listeners.get(channel) ?? new Set();
    this.#listeners.set(channel, set);
    set.add(listener);
    return () => set.delete(listener);
  }

  /** Calls the listeners of one channel. Without notes a listener reads everything again. */
  call(channel: string, notes: readonly string[]): void {
    for (const listener of this.#listeners.get(channel) ?? []) queueMicrotask(() => callListener(() => listener(notes), listenerFailed));
  }

  /** Calls every listener without notes, after a time in which wake-ups may have been lost. */
  callAll(): void {
    for (const channel of this.#listeners.keys()) this.call(channel, []);
  }
}

/** A wake-up is only a hint: the loop behind the listener also polls. */
export function listenerFailed(error: unknown): void {
  guardLogger().warn({ err: error }, 'a listener to wake-ups failed; its work is found by polling');
}
