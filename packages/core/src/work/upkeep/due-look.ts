import { LookBack } from '../../loop/look-back.ts';
import { monotonicMs } from '../../time/monotonic.ts';

/** An empty look over everything that takes longer than this passes the entries of rows that have gone, in ms. */
const slowMs = 20;

/**
 * Looks for rows whose time has come, again and again, over everything while that is cheap. If empty looks take long, the index has entries
 * of many rows that were found long ago, which an old snapshot keeps. Then a look begins at the time of the last one that found all, less
 * what `LookBack` says.
 */
export class DueLook {
  readonly #lookBack = new LookBack();
  #completeAtMs: number | undefined;
  #slowLooks = 0;

  /** True if looks do not go over everything: a row that they do not find may be due all the same. */
  get short(): boolean {
    // Twice in a row, since one look may have waited for a lock or a connection.
    return this.#slowLooks > 1;
  }

  /**
   * Runs one look, which returns the number of rows that it found. `look` gets the time before now at which it begins, in ms; `undefined`: at
   * the earliest row. `limit`: the most rows that it finds at once.
   */
  async run(look: (backMs: number | undefined) => Promise<number>, limit: number = Number.POSITIVE_INFINITY): Promise<number> {
    const completeAtMs = this.#completeAtMs;
    const began = monotonicMs();
    const next = this.#lookBack.begin(!this.short || completeAtMs === undefined);
    const backMs = next.backMs === undefined ? undefined : Math.ceil(began - (completeAtMs ?? began)) + next.backMs;
    let found: number;
    try {
      found = await look(backMs);
    } catch (error) {
      next.failed();
      // The server may end each look over everything at its limit: shorter ones must go on.
      if (backMs === undefined && monotonicMs() - began > slowMs) this.#slowLooks += 1;
      throw error;
    }
    next.ended();
    if (backMs === undefined && found === 0) this.#slowLooks = monotonicMs() - began > slowMs ? this.#slowLooks + 1 : 0;
    // If rows are left, the next look must find them, so it goes over everything.
    this.#completeAtMs = found < limit ? began : undefined;
    return found;
  }
}
