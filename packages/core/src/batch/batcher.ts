/** How much goes into a batch, and what is done with it. */
export interface BatcherOptions<Item, Result> {
  /** Handles items at once; returns their results in the same order. What it throws, each of its callers gets. */
  readonly run: (items: readonly Item[]) => Promise<readonly Result[]>;
  /** Items per call at most. Default 500. */
  readonly size?: number;
  /** Calls under way at a time. Default 2: while one commits, the next is parsed. */
  readonly calls?: number;
}

/**
 * Joins single calls that are under way at the same time into one. While calls are out, newcomers gather for the next; a lone
 * caller waits for nobody.
 */
export class Batcher<Item, Result> {
  readonly #options: BatcherOptions<Item, Result>;
  #waiting: { readonly item: Item; readonly resolve: (result: Result) => void; readonly reject: (error: unknown) => void }[] = [];
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
      this.#options.run(batch.map(({ item }) => item)).then(
        (results) => {
          this.#out -= 1;
          batch.forEach(({ resolve }, i) => {
            resolve(results[i] as Result);
          });
          this.#schedule();
        },
        (error) => {
          this.#out -= 1;
          for (const { reject } of batch) reject(error);
          this.#schedule();
        },
      );
      this.#schedule();
    });
  }
}
