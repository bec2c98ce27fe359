import { wait } from '@holdfast/core';

/** Somebody who waits for news of a run. */
export interface RunWatch extends Disposable {
  /** Resolves when something of the run may have changed since the last call, or after a while. Rejects with the signal's reason. */
  changed(signal: AbortSignal | undefined): Promise<void>;
}

/** Hands hints about runs to those in this process who wait for them. */
export class RunNews {
  readonly #options: { readonly listen: () => void; readonly reliable: () => boolean };
  readonly #watches = new Map<string, Set<() => void>>();

  constructor(options: { readonly listen: () => void; readonly reliable: () => boolean }) {
    this.#options = options;
  }

  watch(runId: string): RunWatch {
    this.#options.listen();
    const watches = this.#watches.get(runId) ?? new Set();
    this.#watches.set(runId, watches);
    let pending = false;
    let waiting: AbortController | undefined;
    const wake = (): void => {
      pending = true;
      waiting?.abort();
    };
    watches.add(wake);
    return {
      changed: async (signal) => {
        signal?.throwIfAborted();
        if (!pending) {
          waiting = new AbortController();
          const ms = this.#options.reliable() ? 5_000 : 500;
          await wait(ms, signal ? AbortSignal.any([signal, waiting.signal]) : waiting.signal).catch(() => undefined);
          waiting = undefined;
          signal?.throwIfAborted();
        }
        pending = false;
      },
      [Symbol.dispose]: () => {
        watches.delete(wake);
        if (watches.size === 0) this.#watches.delete(runId);
      },
    };
  }

  of(runId: string): void {
    for (const wake of this.#watches.get(runId) ?? []) wake();
  }

  all(): void {
    for (const watches of this.#watches.values()) for (const wake of watches) wake();
  }
}
