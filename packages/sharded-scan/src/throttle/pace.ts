import { InvalidArgumentError, monotonicMs } from '@holdfast/core';

/** Limits rows per second over all walks of a scan in this process: the batches of all walks take turns in one queue. */
export class Pace {
  readonly #msPerRow: number;
  #freeAt = 0;

  constructor(perSecond: number | undefined) {
    if (perSecond !== undefined && !(perSecond > 0))
      throw new InvalidArgumentError(`rate is ${perSecond}; give a number of rows per second greater than 0.`);
    this.#msPerRow = perSecond === undefined ? 0 : 1_000 / perSecond;
  }

  /** Reserves the next turn for `rows` rows, and returns the ms until it begins. */
  reserve(rows: number): number {
    const now = monotonicMs();
    const turn = Math.max(now, this.#freeAt);
    this.#freeAt = turn + rows * this.#msPerRow;
    return turn - now;
  }
}
