import { monotonicMs } from '../time/monotonic.ts';

/** How far back looks go, in ms. A look over the last `n` ms is made every `n` ms, so that each costs about one entry per row of the flow. */
const tiersMs = [25, 200, 1_600, 12_800, 102_400] as const;

/** A look over everything takes at most this share of the time. */
const fullShare = 1 / 20;

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
  readonly #lastMs: number[] = tiersMs.map(() => 0);
  #fullAtMs = 0;

  /** Returns how many ms back the next look begins; `undefined`: look at everything, and call `full` with the time that it took. */
  next(): number | undefined {
    const now = monotonicMs();
    if (now >= this.#fullAtMs) return undefined;
    let tier = tiersMs.length - 1;
    while (tier > 0 && now - (this.#lastMs[tier] ?? 0) < (tiersMs[tier] ?? 0)) tier -= 1;
    for (let i = 0; i <= tier; i++) this.#lastMs[i] = now;
    return tiersMs[tier];
  }

  /** Records that a look over everything took `ms`. */
  full(ms: number): void {
    this.#fullAtMs = monotonicMs() + ms / fullShare;
  }
}
