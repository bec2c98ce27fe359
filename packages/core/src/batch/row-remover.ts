import { wait } from '../time/wait.ts';

export interface RowRemoverOptions<Row> {
  /** Removes a batch of rows from their table. */
  readonly remove: (rows: readonly Row[]) => Promise<unknown>;
  /** The batch is gone. */
  readonly onRemoved: (rows: readonly Row[]) => void;
  readonly onError: (error: unknown) => void;
  /** Rows per statement at most. Default 2,000. */
  readonly batch?: number;
}

/**
 * Removes what was handled, one statement at a time, while the next rows are read and handled: what comes meanwhile goes with
 * the next statement. A failure is tried again for ever; until then the rows count as under way, which bounds what is in memory.
 */
export class RowRemover<Row> {
  readonly #options: RowRemoverOptions<Row>;
  #waiting: Row[] = [];
  #running: Promise<void> | undefined;
  #giveUp = false;

  constructor(options: RowRemoverOptions<Row>) {
    this.#options = options;
  }

  /** Has these rows removed, together with others; `flush` tells when they are. */
  push(rows: readonly Row[]): void {
    for (const row of rows) this.#waiting.push(row);
    this.#running ??= this.#run();
  }

  /** Resolves when everything pushed so far is removed, or `withinMs` is over. Returns whether it was. */
  async flush(withinMs: number): Promise<boolean> {
    if (!this.#running) return true;
    const late = new AbortController();
    const done = await Promise.race([this.#running.then(() => true), wait(withinMs, late.signal).then(() => false)]).finally(() =>
      late.abort(new Error('flushed')),
    );
    return done;
  }

  /** After {@link close}. */
  open(): void {
    this.#giveUp = false;
    this.#waiting = [];
  }

  /** Nothing is tried again from here on: what could not be removed is handled once more, by whoever reads it next. */
  close(): void {
    this.#giveUp = true;
  }

  async #run(): Promise<void> {
    // The rows that are handled in this turn of the event loop go together.
    await undefined;
    try {
      for (let pauseMs = 50; this.#waiting.length > 0; ) {
        const limit = this.#options.batch ?? 2_000;
        const batch = this.#waiting.length <= limit ? this.#waiting : this.#waiting.slice(0, limit);
        this.#waiting = this.#waiting.length <= limit ? [] : this.#waiting.slice(limit);
        try {
          await this.#options.remove(batch);
          this.#options.onRemoved(batch);
          pauseMs = 50;
        } catch (error) {
          this.#options.onError(error);
          if (this.#giveUp) return;
          this.#waiting = [...batch, ...this.#waiting];
          await wait(pauseMs);
          pauseMs = Math.min(pauseMs * 2, 2_000);
        }
      }
    } finally {
      // Not in a `finally` of the promise: what is pushed in the moment before that would wait for the next push.
      this.#running = undefined;
    }
  }
}
