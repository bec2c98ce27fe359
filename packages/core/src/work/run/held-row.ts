import type { ClaimedRow } from '../row/table-sql.ts';

/** A row that runs, as its handler sees it. */
export interface RunningRow {
  readonly row: ClaimedRow;
  /** Aborts when the lease is lost, when the row is cancelled, and when the worker has waited for `stopMs` at stop. */
  readonly signal: AbortSignal;
  /**
   * True once the worker has aborted the run because it is stopping. The row is still held: if the run ends by an error now, its verdict is
   * `release`, since a deploy must not count as a failed attempt.
   */
  readonly interrupted: boolean;
}

/** A row that this worker holds, and the time until which its lease is certain. */
export class HeldRow implements RunningRow {
  readonly row: ClaimedRow;
  /** On the monotonic clock, counted from before the claim was sent. */
  deadline: number;
  #controller: AbortController | undefined;
  #reason: Error | undefined;
  #interrupted = false;

  constructor(row: ClaimedRow, deadline: number) {
    this.row = row;
    this.deadline = deadline;
  }

  /** Made at the first access, since most handlers don't use it. */
  get signal(): AbortSignal {
    if (!this.#controller) {
      this.#controller = new AbortController();
      if (this.#reason) this.#controller.abort(this.#reason);
    }
    return this.#controller.signal;
  }

  /** True if the row is no longer this worker's. */
  get lost(): boolean {
    return this.#reason !== undefined && !this.#interrupted;
  }

  get interrupted(): boolean {
    return this.#interrupted;
  }

  /** Aborts the run of a row that is no longer this worker's. */
  abort(reason: Error): void {
    this.#interrupted = false;
    this.#abort(reason);
  }

  /** Aborts the run since the worker is stopping. The row stays this worker's until the run has ended. */
  interrupt(reason: Error): void {
    if (this.#reason) return;
    this.#interrupted = true;
    this.#abort(reason);
  }

  #abort(reason: Error): void {
    if (this.#reason) return;
    this.#reason = reason;
    this.#controller?.abort(reason);
  }
}
