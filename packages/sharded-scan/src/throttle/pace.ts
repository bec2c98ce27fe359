import { InvalidArgumentError, monotonicMs } from '@holdfast/core';

/** Rows per second over all walks of an instance: each batch takes its place in one queue. */
export class Pace {
  readonly #msPerRow: number;
  #freeAt = 0;

  constructor(perSecond: number | undefined) {
    if (perSecond !== undefined && !(perSecond > 0)) throw new InvalidArgumentError(`rate is ${perSecond}; give rows per second.`);
    this.#msPerRow = perSecond === undefined ? 0 : 1_000 / perSecond;
  }

  /** Ms until so many rows have their turn; it is theirs now. */
  take(rows: number): number {
    const now = monotonicMs();
    const turn = Math.max(now, this.#freeAt);
    this.#freeAt = turn + rows * this.#msPerRow;
    return turn - now;
  }
}
