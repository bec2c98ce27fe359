import type { RunTimeout } from './run-timeout.ts';

/** A commit that a handler has begun, and may not await. */
export class BegunCommit<T> {
  /** Settles as the commit does. Its rejection ends no process, also if nobody waits for it. */
  readonly done: Promise<T>;
  readonly #resolve: (value: T) => void;
  readonly #reject: (error: unknown) => void;
  #state: 'open' | 'committed' | 'failed' = 'open';
  #error: unknown;

  constructor() {
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    promise.catch(() => undefined);
    this.done = promise;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  get committed(): boolean {
    return this.#state === 'committed';
  }

  /** The error of a commit that has failed. */
  get failure(): { readonly error: unknown } | undefined {
    return this.#state === 'failed' ? { error: this.#error } : undefined;
  }

  /** `under way` or `done`: why a later call has no effect. `undefined` once the commit has failed: the handler may then try again. */
  get progress(): 'under way' | 'done' | undefined {
    return this.#state === 'open' ? 'under way' : this.#state === 'committed' ? 'done' : undefined;
  }

  succeed(value: T): void {
    this.#state = 'committed';
    this.#resolve(value);
  }

  fail(error: unknown): void {
    this.#state = 'failed';
    this.#error = error;
    this.#reject(error);
  }

  /** Waits until the commit has ended, well or not. @throws HandlerTimeoutError if the time of the run is up before */
  async ended(timeout: RunTimeout): Promise<void> {
    try {
      await timeout.race(this.done);
    } catch (error) {
      if (this.#state === 'open') throw error;
    }
  }
}
