import type { StoredError } from '../../errors/stored-error.ts';

/** What a run came to. Every verdict resets the count of lost starts but `release`, which gives the start back. */
export type Verdict =
  | { readonly outcome: 'done' }
  /** Counts as a failed attempt; runs again after `afterMs`. */
  | { readonly outcome: 'retry'; readonly afterMs: number; readonly error: StoredError }
  /** Counts as a failed attempt; visibly dead. */
  | { readonly outcome: 'dead'; readonly reason: 'rejected' | 'exhausted'; readonly error: StoredError }
  /** Costs no attempt; runs again after `afterMs`. */
  | { readonly outcome: 'snooze'; readonly afterMs: number; readonly reason?: StoredError }
  /** Was never really started (graceful stop): back to READY as if it had not been claimed. */
  | { readonly outcome: 'release' }
  | { readonly outcome: 'cancel'; readonly error: StoredError };

/** What a run came to. */
export type Outcome = Verdict['outcome'];
