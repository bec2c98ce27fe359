import { monotonicMs, startTimer, type Timer } from '@holdfast/core';

/** A line of messages that waits because the broker refused its first one. */
export interface HeldLine {
  readonly lane: number;
  readonly name: string;
  /** Refusals that count, since the broker accepted other messages in between. */
  attempts: number;
  /** Refusals in a row, on which the pause before the next try depends. */
  tries: number;
  /** Publishes accepted by the broker up to the last refusal. */
  acceptedBatches: number;
  /** Monotonic ms; infinite for a line that waits for an operator. */
  dueAt: number;
  /** Set while its parked rows are published. */
  draining: boolean;
}

/** The held lines of this relay's lanes, by name, and the timer of the line that is due next. */
export class HeldLines {
  readonly #lines = new Map<string, HeldLine>();
  /** Lanes whose holds have been read. */
  readonly #loaded = new Set<number>();
  readonly #onDue: (lines: readonly HeldLine[]) => void;
  #timer: Timer | undefined;
  #closed = false;

  /** `onDue` gets lines that are due and not draining. */
  constructor(onDue: (lines: readonly HeldLine[]) => void) {
    this.#onDue = onDue;
  }

  get empty(): boolean {
    return this.#lines.size === 0;
  }

  has(name: string): boolean {
    return this.#lines.has(name);
  }

  get(name: string): HeldLine | undefined {
    return this.#lines.get(name);
  }

  set(line: HeldLine): void {
    this.#lines.set(line.name, line);
  }

  delete(name: string): void {
    this.#lines.delete(name);
  }

  /** Returns whether the holds of the lane have been read. */
  knows(lane: number): boolean {
    return this.#loaded.has(lane);
  }

  /** Marks the holds of the lane as read. */
  loaded(lane: number): void {
    this.#loaded.add(lane);
    this.schedule();
  }

  forgetLane(lane: number): void {
    this.#loaded.delete(lane);
    for (const line of [...this.#lines.values()]) if (line.lane === lane) this.#lines.delete(line.name);
  }

  /** Sets the timer to the line that is due next. Call it after a change of `dueAt`. */
  schedule(): void {
    if (this.#closed) return;
    let next = Number.POSITIVE_INFINITY;
    for (const { dueAt, draining } of this.#lines.values()) if (!draining && dueAt < next) next = dueAt;
    this.#timer?.clear();
    this.#timer = undefined;
    if (next < Number.POSITIVE_INFINITY) this.#timer = startTimer(Math.max(1, next - monotonicMs()), () => this.#due());
  }

  open(): void {
    this.#closed = false;
  }

  /** Ends the timer; the lines stay until {@link clear}. */
  close(): void {
    this.#closed = true;
    this.#timer?.clear();
    this.#timer = undefined;
  }

  clear(): void {
    this.#lines.clear();
    this.#loaded.clear();
  }

  #due(): void {
    const now = monotonicMs();
    this.#onDue([...this.#lines.values()].filter(({ draining, dueAt, lane }) => !draining && dueAt <= now && this.#loaded.has(lane)));
    this.schedule();
  }
}
