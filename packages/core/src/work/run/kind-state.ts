import { monotonicMs } from '../../time/monotonic.ts';
import type { HeldRow } from './held-row.ts';

/** What one worker knows of one kind: its rows that wait here, who runs, where more can be claimed. */
export class KindState {
  readonly kind: string;
  running = 0;
  claiming = 0;
  pumping = false;
  /** Groups with READY rows at the last look, served in turn. */
  groups: string[] = [];
  /** There may be READY rows that have lost a start. */
  suspects = false;
  claimingSuspects = false;
  claimingHinted = false;
  /** Rows held per group. */
  readonly inGroup: Map<string, number> = new Map();
  /** Rows finished per ms, smoothed: how far ahead it pays to claim. */
  rate = 0;
  #queue: HeldRow[] = [];
  /** Index of the next row of the queue: shifting an array of a thousand for each row is not free. */
  #next = 0;
  #finished = 0;
  #measuredAt = monotonicMs();

  constructor(kind: string) {
    this.kind = kind;
  }

  /** Rows claimed and not yet started. */
  get waiting(): number {
    return this.#queue.length - this.#next;
  }

  push(held: HeldRow): void {
    this.#queue.push(held);
  }

  /** The next rows to run. */
  take(count: number): HeldRow[] {
    const rows = this.#queue.slice(this.#next, this.#next + count);
    this.#next += rows.length;
    if (this.#next === this.#queue.length) {
      this.#queue = [];
      this.#next = 0;
    }
    return rows;
  }

  /** Everything that waits. */
  drain(): HeldRow[] {
    return this.take(this.waiting);
  }

  enter(group: string): void {
    this.inGroup.set(group, (this.inGroup.get(group) ?? 0) + 1);
  }

  leave(group: string): void {
    const left = (this.inGroup.get(group) ?? 1) - 1;
    if (left === 0) this.inGroup.delete(group);
    else this.inGroup.set(group, left);
  }

  /** Counts rows that ended into the rate. */
  finished(rows: number): void {
    this.#finished += rows;
    const now = monotonicMs();
    const elapsed = now - this.#measuredAt;
    if (elapsed < 20) return;
    const rate = this.#finished / elapsed;
    this.rate = this.rate === 0 ? rate : 0.7 * this.rate + 0.3 * rate;
    this.#finished = 0;
    this.#measuredAt = now;
  }
}
