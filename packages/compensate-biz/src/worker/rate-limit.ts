import { monotonicMs } from '@holdfast/core';

/** A token bucket: `limit` starts per period, in this worker. */
export class RateLimit {
  readonly #limit: number;
  readonly #perMs: number;
  #tokens: number;
  #at: number = monotonicMs();

  constructor(limit: number, perMs: number) {
    this.#limit = limit;
    this.#perMs = perMs;
    this.#tokens = limit;
  }

  /** Takes up to `wanted` tokens; returns how many it took. */
  take(wanted: number): number {
    const now = monotonicMs();
    this.#tokens = Math.min(this.#limit, this.#tokens + ((now - this.#at) * this.#limit) / this.#perMs);
    this.#at = now;
    const taken = Math.min(wanted, Math.floor(this.#tokens));
    this.#tokens -= taken;
    return taken;
  }
}
