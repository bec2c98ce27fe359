import { wait } from '@holdfast/core';

/** Waits for changes of one run. */
export interface RunWatch extends Disposable {
  /** Resolves when the run may have changed since the last call, or after a polling interval. Rejects with the signal's reason. */
  changed(signal: AbortSignal | undefined): Promise<void>;
}

/** How long a watch waits if wake-ups of other processes arrive, and if they do not. */
const pollMs = { reliable: 5_000, unreliable: 500 } as const;

/** Passes hints about runs to the watches in this process. */
export class RunWatches {
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
          const ms = this.#options.reliable() ? pollMs.reliable : pollMs.unreliable;
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

  wake(runId: string): void {
    for (const wake of this.#watches.get(runId) ?? []) wake();
  }

  wakeAll(): void {
    for (const watches of this.#watches.values()) for (const wake of watches) wake();
  }
}
