import type { Duration } from '@holdfast/core';

/** Options of a submit. */
export interface SubmitOptions {
  /** The business id that people look for. Required for `serial` types. At most 191 characters. */
  readonly bizId?: string | number | bigint;
  /**
   * Makes the submit idempotent per type: a second one with the same key returns the first row's id, for 7 days or the
   * given window; with `while: 'pending'`, for as long as that row has not ended.
   */
  readonly once?: string | { readonly key: string; readonly window?: Duration } | { readonly key: string; readonly while: 'pending' };
  /** A higher number is more urgent. One step is worth a minute of waiting. Default 0. */
  readonly priority?: number;
  /** Shortest time until the row runs. Default none: it runs as soon as a worker is free. */
  readonly delay?: Duration;
  /** The tenant of the row: workers give tenants equal shares. Default `''`. */
  readonly tenant?: string;
  /** Business key under which a timeline is drawn across tables. Default none. */
  readonly subject?: string;
}
