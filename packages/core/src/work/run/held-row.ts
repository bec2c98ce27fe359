import type { ClaimedRow } from '../row/table-sql.ts';

/** One row under way, as its handler sees it. */
export interface RunningRow {
  readonly row: ClaimedRow;
  /** Aborts when the lease is lost, the row is cancelled, or the worker gives up waiting at stop. */
  readonly signal: AbortSignal;
}

/** A row of ours, with our own idea of how long it stays so. */
export class HeldRow implements RunningRow {
  readonly row: ClaimedRow;
  /** Monotonic ms; counted from before the claim was sent. */
  deadline: number;
  #controller: AbortController | undefined;
  #reason: Error | undefined;

  constructor(row: ClaimedRow, deadline: number) {
    this.row = row;
    this.deadline = deadline;
  }

  /** Made when first asked for: most handlers never look. */
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
