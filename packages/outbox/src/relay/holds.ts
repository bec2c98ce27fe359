import { type Backoff, monotonicMs, type StoredError } from '@holdfast/core';
import { type OutboxRow, orderName } from '../table/message-columns.ts';
import { HeldLines } from './held-lines.ts';
import { HoldChanges, type HoldChangesOptions, type NewHold } from './hold-changes.ts';

/** The parts of a relay that {@link Holds} use, and what happens to a line that is refused. */
export interface HoldsOptions extends Omit<HoldChangesOptions, 'lines'> {
  readonly backoff: Backoff;
  readonly onPoison: 'continue' | 'hold-key';
}

/** A line that fails for the first time waits in memory for this long: most failures have ended by then. */
const firstWaitMs = 100;

/**
 * Holds lines whose first message the broker refuses. The whole line waits, and no other line: its rows leave the lane for a parked list,
 * so that a hundred thousand of them do not slow the lane down. They are published from there, in order, before the hold ends.
 *
 * ```
 * free --fails--> waits 100 ms in memory --fails--> held (rows parked) --due--> draining --parked list empty--> free
 *                                                     ^------- fails --------------'
 * ```
 */
export class Holds {
  readonly #options: HoldsOptions;
  readonly #lines: HeldLines;
  readonly #changes: HoldChanges;
  /** Lines that were refused once, with the publishes that the broker had accepted by then. */
  readonly #firstRefusals = new Map<string, { readonly lane: number; readonly acceptedBatches: number }>();
  readonly #timers = new Set<NodeJS.Timeout>();

  constructor(options: HoldsOptions) {
    this.#options = options;
    this.#lines = new HeldLines((due) => {
      for (const line of due) line.draining = true;
      this.#changes.read(due.map(({ name }) => name));
    });
    this.#changes = new HoldChanges({ ...options, lines: this.#lines });
  }

  open(): void {
    this.#lines.open();
    this.#changes.open();
  }

  /** Returns whether the holds of the lane have been read. */
  knows(lane: number): boolean {
    return this.#lines.knows(lane);
  }

  /** Reads the holds of a lane that this relay got. None of its messages is published before. */
  taken(lane: number): void {
    this.#changes.load([lane]);
  }

  /** Forgets a lane that went to another relay. */
  lost(lane: number): void {
    this.#lines.forgetLane(lane);
    this.#changes.forgetLane(lane);
    for (const [name, refusal] of this.#firstRefusals) if (refusal.lane === lane) this.#firstRefusals.delete(name);
  }

  /** Parks the rows of held lines and returns the others. */
  admit(rows: readonly OutboxRow[]): readonly OutboxRow[] {
    if (this.#lines.empty) return rows;
    const free: OutboxRow[] = [];
    const held: OutboxRow[] = [];
    for (const row of rows) (this.#lines.has(orderName(row)) ? held : free).push(row);
    if (held.length > 0) this.#changes.park(held);
    return free;
  }

  isHeld(name: string): boolean {
    return this.#lines.has(name);
  }

  /**
   * Handles a refusal of the first message of a line. Returns true if the line stays in memory, to be resumed.
   * @param counts whether the refusal may count as an attempt
   */
  failed(name: string, lane: number, head: OutboxRow, error: StoredError, counts: boolean): boolean {
    const { backoff, queue, onReady } = this.#options;
    const acceptedBatches = this.#options.acceptedBatches();
    const held = this.#lines.get(name);
    const first = this.#firstRefusals.get(name);
    if (!held && first === undefined) {
      this.#firstRefusals.set(name, { lane, acceptedBatches });
      const timer = setTimeout(() => {
        this.#timers.delete(timer);
        queue.resume(name);
        onReady();
      }, firstWaitMs);
      this.#timers.add(timer);
      return true;
    }
    this.#firstRefusals.delete(name);
    const counted = counts && acceptedBatches !== (held ?? first)?.acceptedBatches;
    const attempts = (held?.attempts ?? 0) + (counted ? 1 : 0);
    const tries = (held?.tries ?? 0) + 1;
    if (attempts >= backoff.maxAttempts) {
      this.#changes.bury({ row: head, parkedUnder: held ? name : undefined, reason: 'exhausted', error });
      this.#hold({ lane, name, waitMs: 0, attempts: 0, error, head: undefined }, 0);
    } else this.#hold({ lane, name, waitMs: this.#pauseMs(tries), attempts, error, head }, tries);
    return false;
  }

  /** Moves the first message of a line, which can never be published, to the dead letters. */
  poisoned(name: string, lane: number, row: OutboxRow, error: StoredError): void {
    this.#changes.bury({ row, parkedUnder: this.#lines.has(name) ? name : undefined, reason: 'poison', error });
    if (this.#options.onPoison === 'hold-key' && row.message_key !== null)
      this.#hold({ lane, name, waitMs: undefined, attempts: 0, error, head: row }, 0);
  }

  /** Parks rows whose line is held. */
  park(rows: readonly OutboxRow[]): void {
    this.#changes.park(rows);
  }

  /** Resets the refusals of a line that published messages. `rows` are those of them that were parked. */
  published(name: string, rows: readonly OutboxRow[]): void {
    this.#firstRefusals.delete(name);
    const held = this.#lines.get(name);
    if (!held) return;
    held.attempts = 0;
    held.tries = 0;
    if (rows.length > 0) this.#changes.unpark(name, rows);
  }

  /** Reads the next parked rows of a line whose earlier ones are published; if it has none, its hold ends. */
  drained(name: string): void {
    if (this.#lines.get(name)?.draining) this.#changes.read([name]);
  }

  /** Reads stored holds again, after an operator released one. */
  reload(lanes: readonly number[]): void {
    this.#changes.load(lanes.filter((lane) => this.#lines.knows(lane)));
  }

  /** Resolves when the changes so far are stored, or cannot be. */
  flush(): Promise<void> {
    return this.#changes.flush();
  }

  async close(): Promise<void> {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
    this.#lines.close();
    await this.#changes.close();
    this.#lines.clear();
    this.#firstRefusals.clear();
  }

  /** After the end of a schedule its last pause is repeated: the end limits the attempts that count, not the tries. */
  #pauseMs(tries: number): number {
    const { backoff } = this.#options;
    for (let n = tries; n > 0; n--) {
      const ms = backoff.delayMs(n);
      if (ms !== undefined) return ms;
    }
    return 1_000;
  }

  #hold(change: NewHold, tries: number): void {
    const { lane, name, attempts } = change;
    const dueAt = change.waitMs === undefined ? Number.POSITIVE_INFINITY : monotonicMs() + change.waitMs;
    this.#lines.set({ lane, name, attempts, tries, acceptedBatches: this.#options.acceptedBatches(), dueAt, draining: false });
    this.#lines.schedule();
    this.#changes.hold(change);
  }
}
