import type { ClaimedRow } from '../row/table-sql.ts';

/** A row that runs, as its handler sees it. */
export interface RunningRow {
  readonly row: ClaimedRow;
  /** Aborts when the lease is lost, when the row is cancelled, and when the worker has waited for `stopMs` at stop. */
  readonly signal: AbortSignal;
}

/** A row that this worker holds, and the time until which its lease is certain. */
export class HeldRow implements RunningRow {
  readonly row: ClaimedRow;
  /** On the monotonic clock, counted from before the claim was sent. */
  deadline: number;
  #controller: AbortController | undefined;
  #reason: Error | undefined;

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

  get aborted(): boolean {
    return this.#reason !== undefined;
  }

  abort(reason: Error): void {
    if (this.#reason) return;
    this.#reason = reason;
    this.#controller?.abort(reason);
  }
}
