import { Once } from '@holdfast/core';
import { purgeRuns } from '../runs/purge-runs.ts';
import { type SweepHost, sweepBlobs } from '../store/sweep-blobs.ts';

export interface RetentionOptions extends SweepHost {
  /** Age in ms at which ended runs are deleted; `undefined`: never. */
  readonly keepRunsMs: number | undefined;
}

/** Deletes what is kept for a time: ended runs, removed tasks, keys of submits, and contents that nothing refers to. */
export class Retention {
  readonly #options: RetentionOptions;
  readonly #once: Once;

  constructor(options: RetentionOptions) {
    this.#options = options;
    this.#once = new Once(options.database);
  }

  /**
   * Makes one pass, whose work is bounded. A step that fails is logged and made again in the next pass; the other steps are made nevertheless.
   * Returns counts of what was deleted.
   */
  async pass(signal?: AbortSignal): Promise<Readonly<Record<string, number>>> {
    const { database, blobs, keepRunsMs } = this.#options;
    const counts: Record<string, number> = {};
    const step = async (name: string, work: () => Promise<number>): Promise<void> => {
      if (signal?.aborted) return;
      try {
        const count = await work();
        if (count > 0) counts[name] = count;
      } catch (err) {
        this.#options.logger.warn({ err, step: name }, 'what was kept for long enough could not be deleted; retrying in the next sweep');
      }
    };
    if (keepRunsMs !== undefined) await step('purged', () => purgeRuns(database, blobs.store, keepRunsMs, signal));
    await step('keys', () => this.#once.purge(signal));
    await step('contents', () => sweepBlobs(this.#options));
    return counts;
  }
}
