import { monotonicMs } from '@holdfast/core';

const timeConstantMs = 5_000;

/** Rows per second, of which what was long ago counts little. */
export class Speed {
  #at = monotonicMs();
  #perSecond: number | undefined;

  /** So many more have been gone past since the last call. Returns rows per second. */
  after(rows: number): number {
    const now = monotonicMs();
    const ms = Math.max(1, now - this.#at);
    this.#at = now;
    const current = (rows / ms) * 1_000;
    const weight = 1 - Math.exp(-ms / timeConstantMs);
    this.#perSecond = this.#perSecond === undefined ? current : this.#perSecond + (current - this.#perSecond) * weight;
    return Math.round(this.#perSecond);
  }
}
