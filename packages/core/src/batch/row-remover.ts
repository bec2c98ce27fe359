import { wait } from '../time/wait.ts';
import { Drain } from './drain.ts';

/** Options of {@link RowRemover}. */
export interface RowRemoverOptions<Row> {
  /** Removes a batch of rows from their table. */
  readonly remove: (rows: readonly Row[]) => Promise<unknown>;
  /** Receives a batch after its removal. */
  readonly onRemoved: (rows: readonly Row[]) => void;
  /** Receives the error of a removal that failed. */
  readonly onError: (error: unknown) => void;
}

/** Rows that one statement removes, at most. */
const rowsPerStatement = 2_000;

/**
 * Removes rows that were handled, one statement at a time, while the next rows are read and handled. Rows that are pushed meanwhile are
 * removed by the next statement. A removal that fails is retried until it succeeds or the remover is closed.
 */
export class RowRemover<Row> {
  readonly #options: RowRemoverOptions<Row>;
  readonly #drain: Drain;
  #waiting: Row[] = [];
  #closed = false;

  constructor(options: RowRemoverOptions<Row>) {
    this.#options = options;
    this.#drain = new Drain({ pending: () => this.#waiting.length > 0, step: () => this.#removeBatch(), onError: options.onError });
  }

  /** Adds rows to the next removal. `flush` waits for it. */
  push(rows: readonly Row[]): void {
    for (const row of rows) this.#waiting.push(row);
    this.#drain.start();
  }

  /** Waits until the rows pushed so far are removed, for `withinMs` at most. Returns whether they are. */
  async flush(withinMs: number): Promise<boolean> {
    const { running } = this.#drain;
    if (!running) return true;
    const late = new AbortController();
    return Promise.race([running.then(() => true), wait(withinMs, late.signal).then(() => false)]).finally(() =>
      late.abort(new Error('flushed')),
    );
  }

  /** Starts again after {@link close}. */
  open(): void {
    this.#closed = false;
    this.#waiting = [];
  }

  /** Ends the retries: rows whose removal fails after this call stay in the table, and the next reader handles them again. */
  close(): void {
    this.#closed = true;
  }

  async #removeBatch(): Promise<void> {
    const batch = this.#waiting.splice(0, rowsPerStatement);
    try {
      await this.#options.remove(batch);
    } catch (error) {
      if (!this.#closed) {
        this.#waiting = [...batch, ...this.#waiting];
        throw error;
      }
      this.#options.onError(error);
      this.#waiting = [];
      return;
    }
    this.#options.onRemoved(batch);
  }
}
