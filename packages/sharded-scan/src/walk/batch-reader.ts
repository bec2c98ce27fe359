import { type Keyset, type Position, samePosition } from './keyset.ts';

/** A range of rows that one read may examine. */
interface Window {
  readonly end: Position;
  /** Rows of the window that are not counted as examined yet. */
  readonly rows: number;
  /** The window ends at the bound. */
  readonly last: boolean;
}

export interface Batch<Row> {
  readonly rows: readonly Row[];
  /** Every row up to this position is in this batch or in one before it. */
  readonly position: Position;
  /** Rows passed, matching or not. */
  readonly examined: number;
  /** The batch ends at the bound. */
  readonly last: boolean;
}

export interface BatchReaderOptions {
  readonly keyset: Keyset;
  /** The last position to read. */
  readonly bound: Position;
  readonly where: { readonly sql: string; readonly params: readonly unknown[] };
  /** The most rows that one read may examine, matching or not. */
  readonly window: number;
  /** The largest number of rows in the next batch. */
  readonly size: () => number;
  /** Calls `ask` again while the database is unavailable. */
  readonly retryOutages: <T>(ask: () => Promise<T>) => Promise<T>;
}

/**
 * Reads a unit batch by batch. One read examines a bounded number of rows (a window), and the position also moves through windows in which
 * no row matches: so a read for rare matches does not outlast the lease.
 */
export class BatchReader<Row extends Record<string, unknown>> {
  readonly #options: BatchReaderOptions;
  #window: Window | undefined;
  #nextWindowAhead: Promise<Window> | undefined;

  constructor(options: BatchReaderOptions) {
    this.#options = options;
  }

  /** The batch after a position. */
  async read(position: Position | undefined): Promise<Batch<Row>> {
    const { keyset, where, size } = this.#options;
    const window = (this.#window ??= await this.#enterWindow(position));
    const limit = size();
    const rows = await keyset.read<Row>(position, window.end, where, limit);
    const last = rows.at(-1);
    if (rows.length >= limit && last) {
      const here = keyset.positionOf(last);
      if (!samePosition(here, window.end)) {
        // The rows between them that did not match are counted with the window's last batch.
        this.#window = { ...window, rows: Math.max(0, window.rows - rows.length) };
        return { rows, position: here, examined: rows.length, last: false };
      }
    }
    this.#window = undefined;
    return { rows, position: window.end, examined: Math.max(rows.length, window.rows), last: window.last };
  }

  /** Enters the next window, and starts to find the end of the one after it while this one is read. */
  async #enterWindow(position: Position | undefined): Promise<Window> {
    const { retryOutages } = this.#options;
    const ahead = this.#nextWindowAhead;
    this.#nextWindowAhead = undefined;
    const window = await (ahead ?? this.#nextWindow(position));
    if (!window.last) {
      this.#nextWindowAhead = retryOutages(() => this.#nextWindow(window.end));
      this.#nextWindowAhead.catch(() => undefined);
    }
    return window;
  }

  async #nextWindow(position: Position | undefined): Promise<Window> {
    const { keyset, bound, window } = this.#options;
    const end = await keyset.ahead(position, bound, window);
    if (end && !samePosition(end, bound)) return { end, rows: window, last: false };
    return { end: bound, rows: await keyset.count(position, bound), last: true };
  }
}
