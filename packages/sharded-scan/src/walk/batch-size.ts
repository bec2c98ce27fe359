import { InvalidArgumentError } from '@holdfast/core';

/** How many rows are handed over at once. */
export type BatchPolicy = number | AdaptiveBatch;

/** A batch size that follows from how long batches take. */
export interface AdaptiveBatch {
  /** How long a batch should take, in ms. */
  readonly targetMs: number;
  readonly min: number;
  readonly max: number;
}

/** A batch size that follows from how long batches take. */
export function adaptive(options: { readonly targetMs?: number; readonly min?: number; readonly max?: number } = {}): AdaptiveBatch {
  const { targetMs = 500, min = 50, max = 5_000 } = options;
  if (!(targetMs > 0) || !Number.isInteger(min) || !Number.isInteger(max) || min < 1 || max < min)
    throw new InvalidArgumentError(
      `adaptive takes { targetMs, min, max } with 1 <= min <= max; it got ${JSON.stringify({ targetMs, min, max })}.`,
    );
  return { targetMs, min, max };
}

/** The size of the next batch: it changes by a fifth at most, and does not grow for want of matches. */
export class BatchSize {
  readonly #policy: BatchPolicy;
  #size: number;

  constructor(policy: BatchPolicy) {
    if (typeof policy === 'number' && (!Number.isInteger(policy) || policy < 1 || policy > 100_000))
      throw new InvalidArgumentError(`batch is ${policy}; give a number of rows from 1 to 100,000, or adaptive({ targetMs: 500 }).`);
    this.#policy = policy;
    this.#size = typeof policy === 'number' ? policy : Math.min(policy.max, Math.max(policy.min, 500));
  }

  get size(): number {
    return this.#size;
  }

  /** A batch of `rows` took `ms`. */
  took(rows: number, ms: number): void {
    if (typeof this.#policy === 'number') return;
    const { targetMs, min, max } = this.#policy;
    // A batch that was not full says how slow rows are, not how many more there could be.
    if (rows < this.#size && ms <= targetMs) return;
    const wanted = ms <= 0 ? max : (rows * targetMs) / ms;
    this.#size = Math.round(Math.min(max, Math.max(min, Math.min(this.#size * 1.2, Math.max(this.#size * 0.8, wanted)))));
  }
}
