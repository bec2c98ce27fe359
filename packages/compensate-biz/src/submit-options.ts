import type { Duration } from '@holdfast/core';

/** Options of a submit. */
export interface SubmitOptions {
  /**
   * The business id that people search for: a text of at most 191 characters, a safe integer or a bigint, stored as text. Required for `serial`
   * types. Default none.
   */
  readonly bizId?: string | number | bigint;
  /**
   * Makes the submit idempotent per type: a second submit with the same key writes nothing and returns the id of the first row. The key
   * holds for 7 days, or for `window`, or, with `while: 'pending'`, until the first row has ended. With `replace`, a second submit gives
   * the first row its own context and delay, if that row has not started: the last of many changes runs once. Default none.
   */
  readonly once?:
    | string
    | { readonly key: string; readonly window?: Duration; readonly replace?: boolean }
    | { readonly key: string; readonly while: 'pending'; readonly replace?: boolean };
  /** A higher number is more urgent: one step counts as a minute of waiting. From -1,000,000 to 1,000,000. Default 0. */
  readonly priority?: number;
  /** Shortest time until the row runs. Default none: it runs as soon as a worker is free. */
  readonly delay?: Duration;
  /** The tenant of the row: workers give tenants equal shares. At most 100 characters. Default `''`. */
  readonly tenant?: string;
  /** Business key, such as the id of an order, that finds everything about it across tables: see `find`. At most 191 characters. Default none. */
  readonly subject?: string;
}
