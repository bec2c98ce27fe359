import { monotonicMs } from '@holdfast/core';

const timeConstantMs = 5_000;

/** Measures rows per second: at first the mean since the start, then a moving average that decays with a time constant of 5 s. */
export class Speed {
  #at = monotonicMs();
  #elapsedMs = 0;
  #perSecond = 0;

  /** Counts `rows` rows examined since the last call. Returns rows per second. */
  record(rows: number): number {
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
