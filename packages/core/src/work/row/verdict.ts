import type { StoredError } from '../../errors/stored-error.ts';

/** The result of a run. Every verdict resets the count of lost starts, except `release`, which does not count the start. */
export type Verdict =
  /** `result` is JSON, and is stored if the row is kept and its table has a column for it. */
  | { readonly outcome: 'done'; readonly result?: string }
  /** Counts as a failed attempt. The row runs again after `afterMs`. */
  | { readonly outcome: 'retry'; readonly afterMs: number; readonly error: StoredError }
  /** Counts as a failed attempt. The row becomes DEAD. */
  | { readonly outcome: 'dead'; readonly reason: 'rejected' | 'exhausted'; readonly error: StoredError }
  /** Does not count as an attempt. The row runs again after `afterMs`. */
  | { readonly outcome: 'snooze'; readonly afterMs: number; readonly reason?: StoredError }
  /** The run did not begin, as at a graceful stop. The row becomes READY, as if it had not been claimed. */
  | { readonly outcome: 'release' }
  | { readonly outcome: 'cancel'; readonly error: StoredError };

/** The name of a verdict. */
export type Outcome = Verdict['outcome'];
