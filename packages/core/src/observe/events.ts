import { callListener } from './call-listener.ts';
import { guardLogger } from './guard-logger.ts';
import type { Logger } from './logger.ts';

/** A typed map of events: name to payload. */
export type EventMap = Record<string, unknown>;

/** The part of {@link Events} that packages expose: listening. */
export interface EventSource<Map extends object> {
  /**
   * Calls `listener` at each event, and returns the function that removes it. The listener may be async; nothing waits for it. If it throws
   * or rejects, the error is only logged.
   */
  on<Name extends keyof Map>(name: Name, listener: (payload: Map[Name]) => void): () => void;
}

/** A small typed emitter. A listener that throws or rejects does not stop the loop that emits. */
export class Events<Map extends object> implements EventSource<Map> {
  readonly #listeners = new globalThis.Map<keyof Map, Set<(payload: never) => void>>();
  readonly #logger: Logger;

  constructor(logger: Logger) {
    this.#logger = guardLogger(logger);
  }

  on<Name extends keyof Map>(name: Name, listener: (payload: Map[Name]) => void): () => void {
    const set = this.#listeners.get(name) ?? new Set();
    this.#listeners.set(name, set);
    set.add(listener as (payload: never) => void);
    return () => set.delete(listener as (payload: never) => void);
  }

  /** Calls every listener. The error of one is logged, and the others are still called. */
  emit<Name extends keyof Map>(name: Name, payload: Map[Name]): void {
    const set = this.#listeners.get(name);
    if (!set) return;
    for (const listener of set) {
      callListener(
        () => (listener as (payload: Map[Name]) => void)(payload),
        (error) =>
          this.#logger.error({ event: String(name), err: error }, 'an event listener failed; the event was delivered to the others'),
      );
    }
  }

  /** Returns whether the event has a listener. Hot paths use it to skip building the payload. */
  has(name: keyof Map): boolean {
    return (this.#listeners.get(name)?.size ?? 0) > 0;
  }
}
