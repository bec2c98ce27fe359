import { wait } from '@holdfast/core';

/** Bounds one call of `publish` by a time limit and by its caller's signal. */
export class PublishDeadline {
  readonly #ended = new AbortController();
  readonly #expired: Promise<undefined>;

  constructor(timeoutMs: number, signal?: AbortSignal) {
    this.#expired = wait(timeoutMs, AbortSignal.any([this.#ended.signal, ...(signal ? [signal] : [])])).then(() => undefined);
    // Otherwise an abort while nothing races would be an unhandled rejection.
    this.#expired.catch(() => undefined);
  }

  /** The result of `work`, or `undefined` when the time is up before. Rejects with `signal.reason` when the caller aborts. */
  race<T>(work: Promise<T>): Promise<T | undefined> {
    return Promise.race([work, this.#expired]);
  }

  /** Stops the timer. */
  end(): void {
    this.#ended.abort(new Error('published'));
  }
}
