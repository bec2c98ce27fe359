/** Starts at one moment: when, in ms, and how many. */
export type Starts = readonly [atMs: number, count: number];

/**
 * Moments that are kept apart, at most. Beyond that the two that are closest count as one, at the later time, so that sometimes a few starts fewer
 * than the limit are allowed, and never more.
 */
const maxMoments = 64;

/**
 * Counts starts against a rate: in no period of `perMs`, whenever it begins, are there more than `limit`. (A token bucket was rejected: full
 * at the beginning of a period and refilled during it, it lets twice the limit through.)
 */
export class RateWindow {
  readonly #limit: number;
  readonly #perMs: number;
  #moments: Starts[];

  /** @param moments what {@link RateWindow.moments} returned, earliest first */
  constructor(limit: number, perMs: number, moments: readonly Starts[] = []) {
    this.#limit = limit;
    this.#perMs = perMs;
    this.#moments = [...moments];
  }

  /** The starts that still count, earliest first. */
  get moments(): readonly Starts[] {
    return this.#moments;
  }

  /** Returns how many may start at `nowMs`. */
  free(nowMs: number): number {
    this.#moments = this.#moments.filter(([at]) => nowMs - at < this.#perMs);
    return Math.max(0, this.#limit - this.#moments.reduce((sum, [, count]) => sum + count, 0));
  }

  /** Adds starts at `nowMs`, which must not be before the last. */
  add(nowMs: number, count: number): void {
    const moments = this.#moments;
    if (count < 1) return;
    moments.push([nowMs, count]);
    if (moments.length <= maxMoments) return;
    let closest = 0;
    for (let i = 1; i + 1 < moments.length; i++) if (gap(moments, i) < gap(moments, closest)) closest = i;
    const [first = nowMs, some = 0] = moments[closest] ?? [];
    const [second = nowMs, more = 0] = moments[closest + 1] ?? [];
    moments.splice(closest, 2, [Math.max(first, second), some + more]);
  }

  /** Returns the time until another may start, in ms; 0 if one may start at `nowMs`. */
  waitMs(nowMs: number): number {
    if (this.free(nowMs) > 0) return 0;
    let over = this.#moments.reduce((sum, [, count]) => sum + count, 0) - this.#limit;
    for (const [at, count] of this.#moments) {
      if ((over -= count) < 0) return at + this.#perMs - nowMs;
    }
    return this.#perMs;
  }
}

function gap(moments: readonly Starts[], i: number): number {
  return (moments[i + 1]?.[0] ?? 0) - (moments[i]?.[0] ?? 0);
}
