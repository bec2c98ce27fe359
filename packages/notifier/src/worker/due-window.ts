import { type Logger, monotonicMs, wait } from '@holdfast/core';
import type { DueRow } from '../table/due-row.ts';
import type { DueReader } from './due-reader.ts';

export interface DueWindowOptions {
  readonly endpointId: string;
  /** Aborts when the lease of the endpoint is lost, or when the worker's `stopTimeout` has passed. */
  readonly signal: AbortSignal;
  readonly reader: Pick<DueReader, 'read'>;
  /** Maximum number of rows in memory. */
  readonly rows: number;
  /** Ends an attempt that a vanished worker had started. Resolves once the end is written, or can't be. */
  readonly endOrphan: (row: DueRow) => Promise<unknown>;
  /** Called when rows have come in, or have left the memory. */
  readonly changed: () => void;
  readonly logger: Logger;
}

/** Interval at which due notifications are read from the start, in ms: one may commit late, at a position before those already read. */
const rescanMs = 1_000;

/**
 * The due notifications of one endpoint that are read ahead of their turns. A row is held from its read until its end is written, so that
 * it is not read twice. The reads go on from a cursor, by due time; they start again at each wake-up and once a second.
 */
export class DueWindow {
  readonly #options: DueWindowOptions;
  /** Ids of the rows that are in memory or whose end is being written. */
  readonly #held = new Set<string>();
  #queue: DueRow[] = [];
  #cursor = { dueAt: '-1', id: '0' };
  /** True if there may be rows after the cursor. */
  #more = true;
  /** True if the window was woken during a read. */
  #again = false;
  #reading = false;
  #rescanAt = monotonicMs() + rescanMs;
  #closed = false;

  constructor(options: DueWindowOptions) {
    this.#options = options;
  }

  /** True if a row waits for its turn. */
  get waiting(): boolean {
    return this.#queue.length > 0;
  }

  /** True if no read is under way, and no row is held. */
  get quiet(): boolean {
    return !this.#reading && this.#held.size === 0;
  }

  /** True if the last read has found the end of what is due. */
  get drained(): boolean {
    return !this.#more;
  }

  /** Takes the row whose turn it is, or `undefined`. Without `retries`, only a first attempt is taken. */
  take(retries: boolean): DueRow | undefined {
    const at = retries ? 0 : this.#queue.findIndex(({ notifyTimes }) => notifyTimes === 0);
    const [row] = at < 0 ? [] : this.#queue.splice(at, 1);
    return row;
  }

  /** Lets a row go that was taken. If it is due, it may be read again. */
  release(id: string): void {
    this.#held.delete(id);
  }

  /** Reads from the start again, since there may be new rows; during a read, after it. */
  wake(): void {
    if (this.#reading) this.#again = true;
    else this.rewind();
  }

  /** Has the next read begin at the start. */
  rewind(): void {
    this.#cursor = { dueAt: '-1', id: '0' };
    this.#more = true;
    this.#rescanAt = monotonicMs() + rescanMs;
  }

  /** Reads more rows if half of the window is free. */
  refill(): void {
    if (this.#closed || this.#reading) return;
    if (monotonicMs() >= this.#rescanAt) this.rewind();
    if (!this.#more || this.#queue.length > this.#options.rows / 2) return;
    this.#reading = true;
    void this.#read().finally(() => {
      this.#reading = false;
      if (this.#again) {
        this.#again = false;
        this.rewind();
      }
      this.#options.changed();
    });
  }

  /** Reads no further row, and lets those go whose turn has not come. */
  close(): void {
    this.#closed = true;
    for (const { id } of this.#queue) this.#held.delete(id);
    this.#queue = [];
  }

  async #read(): Promise<void> {
    const { endpointId, reader, rows: most, signal, logger } = this.#options;
    const { dueAt, id } = this.#cursor;
    const limit = Math.max(2, most - this.#queue.length);
    try {
      const rows = await reader.read({ endpointId, afterDueAt: dueAt, afterId: id, limit });
      const last = rows.at(-1);
      if (last) this.#cursor = { dueAt: last.dueAt, id: last.id };
      if (!this.#closed) for (const row of rows) this.#admit(row);
      this.#more = rows.length >= limit;
      // The end was reached from a position. Read once more from the start: rows may have committed before it, and this read deleted their
      // wake rows.
      if (!this.#more && dueAt !== '-1') this.rewind();
    } catch (err) {
      logger.debug({ err, endpoint: endpointId }, 'due notifications could not be read; it is tried again');
      await wait(200, signal).catch(() => undefined);
    }
  }

  #admit(row: DueRow): void {
    if (this.#held.has(row.id)) return;
    this.#held.add(row.id);
    if (!row.orphan) {
      this.#queue.push(row);
      return;
    }
    void this.#options.endOrphan(row).finally(() => {
      this.#held.delete(row.id);
      this.#options.changed();
    });
  }
}
