import { LookBack } from '../../loop/look-back.ts';
import { monotonicMs } from '../../time/monotonic.ts';

/**
 * Looks for rows whose time has come, again and again. Each look begins at the time of the last look that found all, less what `LookBack`
 * says: the index may still have entries of millions of rows that were found long ago.
 */
export class DueLook {
  readonly #lookBack = new LookBack();
  #completeAtMs: number | undefined;

  /**
   * Runs one look. `look` gets the time before now at which it begins, in ms; `undefined`: at the earliest row. `complete` says whether it
   * found all of the rows.
   */
  async run<T>(look: (backMs: number | undefined) => Promise<T>, complete: (result: T) => boolean): Promise<T> {
    const began = monotonicMs();
    const backMs = this.#completeAtMs === undefined ? undefined : this.#lookBack.next();
    const result = await look(backMs === undefined ? undefined : Math.ceil(began - (this.#completeAtMs ?? began) + backMs));
    if (backMs === undefined) this.#lookBack.full(monotonicMs() - began);
    if (complete(result)) this.#completeAtMs = began;
    return result;
  }
}
