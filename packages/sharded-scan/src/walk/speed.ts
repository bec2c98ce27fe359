import { monotonicMs } from '@holdfast/core';

const timeConstantMs = 5_000;

/** Rows per second: of the whole time at first, and then what was long ago counts little. */
export class Speed {
  #at = monotonicMs();
  #elapsedMs = 0;
  #perSecond = 0;

  /** So many more have been gone past since the last call. Returns rows per second. */
  after(rows: number): number {
    const now = monotonicMs();
    const ms = Math.max(1, now - this.#at);
    this.#at = now;
    const current = (rows / ms) * 1_000;
    this.#elapsedMs += ms;
    const weight = Math.max(1 - Math.exp(-ms / timeConstantMs), ms / this.#elapsedMs);
    this.#perSecond += (current - this.#perSecond) * weight;
    return Math.round(this.#perSecond);
  }
}
