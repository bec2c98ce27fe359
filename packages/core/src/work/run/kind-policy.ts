import type { ClaimCap } from '../row/claim-rows.ts';
import type { ClaimedRow } from '../row/table-sql.ts';

/** Rules by which this worker runs rows of one kind. */
export interface KindPolicy {
  /** Runs at a time in this worker, at most. */
  readonly concurrency: number;
  /** Rows per run at most. 1 unless the handler takes batches. */
  readonly batch: number;
  /** Returns whether a row is kept as DONE; it is deleted otherwise. */
  readonly keep: (row: ClaimedRow) => boolean;
  /** Rows of one group (tenant) that this worker holds at a time, at most. */
  readonly groupConcurrency: number;
  /** Lost starts in a row after which a row is given up. At its last start the row runs alone. */
  readonly maxLost: number;
  /**
   * Returns how many of `wanted` rows may be claimed now: 0 when the kind is paused, rate-limited or behind an open breaker. A number above
   * 0 is a promise until `claimed` is called.
   */
  readonly admit: (wanted: number) => number | Promise<number>;
  /** Called when the claim has ended for which `admit` returned `admitted`: `rows` rows were claimed, and start now. */
  readonly claimed?: (admitted: number, rows: number) => void;
  /** False if rows are claimed only when they can start at once, since their starts are counted. Default true. */
  readonly claimAhead?: boolean;
  /** A limit that holds across processes. */
  readonly cap?: ClaimCap | undefined;
}
