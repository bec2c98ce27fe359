/** Options of {@link Batcher}. */
export interface BatcherOptions<Item, Result> {
  /** Handles items together and returns their results in the same order. Each caller gets what it throws, unless `alone` says otherwise. */
  readonly run: (items: readonly Item[]) => Promise<readonly Result[]>;
  /** Items per call at most. Default 500. */
  readonly size?: number;
  /** Calls under way at a time. Default 2: while one commits, the next is parsed. */
  readonly calls?: number;
  /**
   * Whether the items of a batch that failed with this error are handled again, each alone, so that a bad item does not fail its neighbours.
   * Return false where the batch may have been handled after all, as after a lost connection. Default: never.
   */
  readonly alone?: (error: unknown) => boolean;
}

interface Call<Item, Result> {
  readonly item: Item;
  readonly resolve: (result: Result) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Joins single calls that are under way at the same time into one. While calls are out, newcomers gather for the next; a lone
 * caller waits for nobody.
 */
export class Batcher<Item, Result> {
  readonly #options: BatcherOptions<Item, Result>;
  #waiting: Call<Item, Result>[] = [];
  #out = 0;
  #scheduled = false;

  constructor(options: BatcherOptions<Item, Result>) {
    this.#options = options;
  }

  /** Adds a call to the batch that is collected now; resolves with its own result. */
  call(item: Item): Promise<Result> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ item, resolve, reject });
      this.#schedule();
    });
  }

  /** On the next turn of the event loop, so that all callers of this turn are in. */
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
