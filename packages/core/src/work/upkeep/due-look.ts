import { LookBack, shortestMs } from '../../loop/look-back.ts';
import type { Logger } from '../../observe/logger.ts';
import { monotonicMs } from '../../time/monotonic.ts';

/**
 * Looks for rows whose time has come, again and again. Each look begins at the time of the last look that found all, less what `LookBack`
 * says: the index may still have entries of millions of rows that were found long ago.
 */
export class DueLook {
  readonly #lookBack = new LookBack();
  readonly #logger: Logger;
  #completeAtMs: number | undefined;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /**
   * Runs one look. `look` gets the time before now at which it begins, in ms; `undefined`: at the earliest row. `complete` says whether it
   * found all of the rows. A look that takes long runs beside a short one, whose result is returned.
   */
  async run<T>(look: (backMs: number | undefined) => Promise<T>, complete: (result: T) => boolean): Promise<T> {
    const began = monotonicMs();
    const completeAtMs = this.#completeAtMs;
    const next = this.#lookBack.begin(completeAtMs === undefined);
    const run = async (backMs: number | undefined, ended?: () => void): Promise<T> => {
      try {
        const result = await look(
          backMs === undefined || completeAtMs === undefined ? undefined : Math.ceil(began - completeAtMs) + backMs,
        );
        if (complete(result)) this.#completeAtMs = Math.max(began, this.#completeAtMs ?? began);
        return result;
      } finally {
        ended?.();
      }
    };
    if (completeAtMs === undefined || !next.slow) return run(next.backMs, next.ended);
    void run(next.backMs, next.ended).catch((err) => this.#logger.debug({ err }, 'a look far back failed; retrying'));
    return run(shortestMs);
  }
}
