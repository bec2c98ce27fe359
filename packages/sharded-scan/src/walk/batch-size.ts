import { InvalidArgumentError } from '@holdfast/core';

/** The number of rows in a batch: a fixed number from 1 to 100,000, or {@link adaptive}. */
export type BatchPolicy = number | AdaptiveBatch;

/** A batch size that is adjusted to the time that batches take; made by {@link adaptive}. */
export interface AdaptiveBatch {
  /** Time that `process` should take for a batch, in ms. */
  readonly targetMs: number;
  /** The smallest size, in rows. */
  readonly min: number;
  /** The largest size, in rows. */
  readonly max: number;
}

/**
 * A batch size that is adjusted to the time that batches take. It begins at 500 rows and changes by at most a fifth per batch. Defaults:
 * `targetMs` 500, `min` 50 rows, `max` 5,000 rows.
 * @throws InvalidArgumentError
 */
export function adaptive(options: { readonly targetMs?: number; readonly min?: number; readonly max?: number } = {}): AdaptiveBatch {
  const { targetMs = 500, min = 50, max = 5_000 } = options;
  if (!(targetMs > 0) || !Number.isInteger(min) || !Number.isInteger(max) || min < 1 || max < min)
    throw new InvalidArgumentError(
      `adaptive takes { targetMs, min, max } with 1 <= min <= max; it got ${JSON.stringify({ targetMs, min, max })}.`,
    );
  return { targetMs, min, max };
}

/** The size of the next batch. It changes by at most a fifth, and does not grow after a batch that was not full. */
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

  /** Adjusts the size after a batch of `rows` rows took `ms`. */
  adjust(rows: number, ms: number): void {
    if (typeof this.#policy === 'number') return;
    const { targetMs, min, max } = this.#policy;
    // A batch that was not full may show that rows are slow, but not that a larger batch would be fast enough.
    if (rows < this.#size && ms <= targetMs) return;
    const wanted = ms <= 0 ? max : (rows * targetMs) / ms;
    this.#size = Math.round(Math.min(max, Math.max(min, Math.min(this.#size * 1.2, Math.max(this.#size * 0.8, wanted)))));
  }
}
