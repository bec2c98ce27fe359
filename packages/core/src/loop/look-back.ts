import { monotonicMs } from '../time/monotonic.ts';

/** How far back looks go, in ms. A look over the last `n` ms is made every `n` ms, so that each costs about one entry per row of the flow. */
const tiersMs = [25, 200, 1_600, 12_800, 102_400, Number.POSITIVE_INFINITY] as const;

/** Looks of one tier take at most this share of the time. */
const share = 1 / 20;

/** A look over everything is made at least this often, in ms. */
const longestPauseMs = 30_000;

/** A look that takes longer than this should not be waited for, in ms. */
const slowMs = 10;

/** A look that has begun. */
export interface Look {
  /** How far back it goes, in ms; `undefined`: over everything. */
  readonly backMs: number | undefined;
  /** True if the last look as far back took so long that nobody should wait for this one: make a look over {@link shortestMs} beside it. */
  readonly slow: boolean;
  /** Call it when the look has ended. `oftener`: how many times more often than usual the next look over everything may be made. */
  readonly ended: (oftener?: number) => void;
  /**
   * Call it when the look has failed. It counts as one that took so long: a look that the server ends each time at its limit would otherwise be
   * begun again at once, and waited for, for ever.
   */
  readonly failed: () => void;
}

/** The shortest look, in ms. */
export const shortestMs: number = tiersMs[0];

/**
 * Decides how far back each look of a loop begins, so that a loop that looks at the front of an index pays for the rows that are there, not
 * for those that were.
 *
 * Rows that have gone stay in an index until the database removes them, which an old snapshot (a backup, a report, an idle transaction) may
 * prevent for hours: 3.6 million of them cost a look more than a second. So a look begins at the place up to which rows have been taken.
 * A row may appear before that place: it was committed late, has a priority, or is a claim that was rolled back. A row that is late by
 * `n` ms is found within about `8 * n` ms, and every row by the next look over everything, which is made as often as its own time allows.
 */
export class LookBack {
  readonly #tiers = tiersMs.map((ms) => ({ ms, tookMs: 0, lastMs: 0, dueAtMs: 0 }));

  /** Begins the look that goes back furthest of those that are due. With `everything`, one over everything. */
  begin(everything = false): Look {
    const began = monotonicMs();
    let last = this.#tiers.length - 1;
    while (!everything && last > 0 && began < (this.#tiers[last]?.dueAtMs ?? 0)) last -= 1;
    const tier = this.#tiers[last];
    const nearer = this.#tiers.slice(0, last);
    // While it runs, no other look as far back begins.
    if (tier) tier.dueAtMs = Number.POSITIVE_INFINITY;
    for (const one of nearer) one.dueAtMs = Math.max(one.dueAtMs, began + one.ms);
    const ended = (oftener = 1): void => {
      if (!tier) return;
      const now = monotonicMs();
      // One stall (a lock, a connection that opens) must not decide: the shorter of the last two times counts.
      tier.tookMs = Math.min(now - began, tier.lastMs);
      tier.lastMs = now - began;
      const pauseMs = Math.min(tier.tookMs / share / oftener, longestPauseMs);
      tier.dueAtMs = now + (tier.ms === Number.POSITIVE_INFINITY ? pauseMs : Math.max(tier.ms, pauseMs));
    };
    return {
      backMs: tier?.ms === Number.POSITIVE_INFINITY ? undefined : tier?.ms,
      slow: (tier?.tookMs ?? 0) > slowMs,
      ended,
      failed: () => ended(),
    };
  }
}
