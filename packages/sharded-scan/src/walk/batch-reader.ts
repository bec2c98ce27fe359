import { type Keyset, type Position, samePosition } from './keyset.ts';

/** What one read may go past. */
interface Window {
  readonly end: Position;
  /** Its rows that are not counted yet. */
  readonly rows: number;
  readonly last: boolean;
}

export interface Batch<Row> {
  readonly rows: readonly Row[];
  /** Everything up to here is in this batch or before it. */
  readonly position: Position;
  readonly examined: number;
  readonly last: boolean;
}

export interface BatchReaderOptions {
  readonly keyset: Keyset;
  readonly bound: Position;
  readonly where: { readonly sql: string; readonly params: readonly unknown[] };
  /** Rows that one read goes past at most, matching or not. */
  readonly window: number;
  /** Rows of a batch at most. */
  readonly size: () => number;
  /** Asks again while the database is away. */
  readonly patiently: <T>(ask: () => Promise<T>) => Promise<T>;
}

/**
 * Reads a unit batch by batch. A read goes past a bounded number of rows, and the position moves through windows in which nothing
 * matches: rare matches keep no read going for longer than the lease.
 */
export class BatchReader<Row extends Record<string, unknown>> {
  readonly #options: BatchReaderOptions;
  #window: Window | undefined;
  #ahead: Promise<Window> | undefined;

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
        // What did not match between them is counted with the window's last batch.
        this.#window = { ...window, rows: Math.max(0, window.rows - rows.length) };
        return { rows, position: here, examined: rows.length, last: false };
      }
    }
    this.#window = undefined;
    return { rows, position: window.end, examined: Math.max(rows.length, window.rows), last: window.last };
  }

  /** The end of the window after it is looked for while this one is read. */
  async #enterWindow(position: Position | undefined): Promise<Window> {
    const { patiently } = this.#options;
    const ahead = this.#ahead;
    this.#ahead = undefined;
    const window = await (ahead ?? this.#nextWindow(position));
    if (!window.last) {
      this.#ahead = patiently(() => this.#nextWindow(window.end));
      this.#ahead.catch(() => undefined);
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
