/** Options of {@link Batcher}. */
export interface BatcherOptions<Item, Result> {
  /** Handles items together and returns their results in the same order. If it throws, each caller gets the error, unless `alone` is true. */
  readonly run: (items: readonly Item[]) => Promise<readonly Result[]>;
  /** Items per batch at most. Default 500. */
  readonly size?: number;
  /** Batches that run at a time. Default 2: while one commits, the next is parsed. */
  readonly calls?: number;
  /**
   * Returns whether the items of a batch that failed with this error are handled again, each alone, so that a bad item does not fail the
   * others. Return false where the batch may have been handled after all, as after a lost connection. Default: never.
   */
  readonly alone?: (error: unknown) => boolean;
}

interface Call<Item, Result> {
  readonly item: Item;
  readonly resolve: (result: Result) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Joins calls that are made at the same time into batches. While batches run, new calls are collected for the next one. A single call does
 * not wait.
 */
export class Batcher<Item, Result> {
  readonly #options: BatcherOptions<Item, Result>;
  #waiting: Call<Item, Result>[] = [];
  #out = 0;
  #scheduled = false;

  constructor(options: BatcherOptions<Item, Result>) {
    this.#options = options;
  }

  /** Adds an item to the next batch. Resolves with the result of the item. */
  call(item: Item): Promise<Result> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ item, resolve, reject });
      this.#schedule();
    });
  }

  /** Starts a batch on the next turn of the event loop, so that it contains all calls of this turn. */
  #schedule(): void {
    if (this.#scheduled || this.#waiting.length === 0 || this.#out >= (this.#options.calls ?? 2)) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      const batch = this.#waiting.splice(0, this.#options.size ?? 500);
      this.#out += 1;
      void this.#run(batch).finally(() => {
        this.#out -= 1;
        this.#schedule();
      });
      this.#schedule();
    });
  }

  async #run(batch: readonly Call<Item, Result>[]): Promise<void> {
    try {
      const results = await this.#options.run(batch.map(({ item }) => item));
      batch.forEach(({ resolve }, i) => {
        resolve(results[i] as Result);
      });
    } catch (error) {
      if (batch.length > 1 && this.#options.alone?.(error)) for (const call of batch) await this.#run([call]);
      else for (const { reject } of batch) reject(error);
    }
  }
}
