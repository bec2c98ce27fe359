import { monotonicMs } from '../../time/monotonic.ts';
import type { HeldRow } from './held-row.ts';

/** The state of one kind in one worker: its waiting and running rows, and the groups from which more can be claimed. */
export class KindState {
  readonly kind: string;
  /** The number of calls of a handler that have not ended; each has up to `KindPolicy.batch` rows. */
  running = 0;
  /** The number of claims of `RowClaimer.fill` that have not ended. */
  claiming = 0;
  /** True while handlers are being started: see `WorkRunner`. */
  pumping = false;
  /** The groups that had READY rows at the last poll. They are claimed from in turn. */
  groups: string[] = [];
  /** True if there may be READY rows that have lost a start. */
  suspects = false;
  claimingSuspects = false;
  /** The number of its running rows that were started alone: see `LoneRuns`. */
  alone = 0;
  /** The ids of new rows that have not been claimed yet. */
  readonly hinted: string[] = [];
  claimingHinted = false;
  /** The number of rows held, per group. */
  readonly inGroup: Map<string, number> = new Map();
  /** Rows finished per ms, smoothed. It decides how many rows are claimed ahead. */
  rate = 0;
  #queue: HeldRow[] = [];
  /** The index of the next row of the queue. To shift an array of a thousand for each row would be slow. */
  #next = 0;
  #finished = 0;
  #measuredAt = monotonicMs();

  constructor(kind: string) {
    this.kind = kind;
  }

  /** The number of rows that are claimed and have not started. */
  get waiting(): number {
    return this.#queue.length - this.#next;
  }

  /**
   * Sets the groups that a look has found. They are claimed from in turn. A complete look found every group; after another one, groups that are
   * known stay until a claim finds them empty, and new ones come first.
   */
  found(names: readonly string[], complete: boolean): void {
    const known = new Set(this.groups);
    if (complete) this.groups = rotate(names, this.groups[0]);
    else this.groups = [...names.filter((name) => !known.has(name)), ...this.groups];
  }

  push(held: HeldRow): void {
    this.#queue.push(held);
  }

  /** Removes and returns the next rows to run. */
  take(count: number): HeldRow[] {
    const rows = this.#queue.slice(this.#next, this.#next + count);
    this.#next += rows.length;
    if (this.#next === this.#queue.length) {
      this.#queue = [];
      this.#next = 0;
    }
    return rows;
  }

  /** Removes and returns all rows that wait. */
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

  /** Adds rows that have ended to the rate. */
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

/** The names in their order, beginning with `first` if it is one of them. */
function rotate(names: readonly string[], first: string | undefined): string[] {
  const at = first === undefined ? -1 : names.indexOf(first);
  return at <= 0 ? [...names] : [...names.slice(at), ...names.slice(0, at)];
}
