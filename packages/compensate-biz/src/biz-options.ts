import type { DatabaseOptions, Logger, Waker } from '@holdfast/core';
import type { BizTypes } from './biz-type.ts';
import type { Hints } from './wake/hints.ts';

/** Options of {@link createCompensateBiz}: the database that holds the table, the types of rows, and limits. */
export interface CompensateBizOptions<Types extends BizTypes> extends DatabaseOptions {
  /** The types that this service may submit. A worker runs those that have a handler. */
  readonly types: Types;
  /** Largest context as JSON, in bytes. A submit with a larger context fails with InvalidContextError. Default 262,144. */
  readonly maxContextBytes?: number;
  /**
   * Largest result of a handler as JSON, in bytes. A run that returns a larger one fails with InvalidResultError, and its row is FAILED. Results
   * of types with `keep: 'none'` are not stored, and not checked. Default 65,536.
   */
  readonly maxResultBytes?: number;
  /**
   * Wakes workers of other processes after a submit. Default: LISTEN on Postgres, `PRAGMA data_version` on SQLite, none elsewhere:
   * workers there find new rows by polling.
   */
  readonly waker?: Waker;
  /** Carries the ids of new rows to workers in other processes, in addition to `waker`. Default none. */
  readonly hints?: Hints;
  /** Receives the log lines. Default: warnings and errors go to standard error. */
  readonly logger?: Logger;
}
