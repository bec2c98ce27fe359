import type { Duration, Verdict } from '@holdfast/core';
import type { Knex } from 'knex';
import type { BizTypes, ContextInput, ContextOutput, ResultOf } from './biz-type.ts';
import type { SubmitOptions } from './submit-options.ts';

const mark: unique symbol = Symbol('outcome');

/** The value of a call of {@link Run} that ends the run. A handler may return the value; the call counts in any case. */
export interface RunOutcome {
  readonly [mark]: Verdict | 'committed';
}

/** The verdict behind a value that a handler returned; `undefined` for a plain result. */
export function outcomeOf(value: unknown): Verdict | 'committed' | undefined {
  return typeof value === 'object' && value !== null && mark in value ? (value as RunOutcome)[mark] : undefined;
}

/** Makes the value that a call of {@link Run} returns. */
export function outcome(verdict: Verdict | 'committed'): RunOutcome {
  return { [mark]: verdict };
}

/** How far a run is: a share from 0 to 1, or counts. */
export type Progress = number | { readonly done: number; readonly total?: number; readonly note?: string };

/** One run of one row, as its handler sees it. */
export interface Run<Types extends BizTypes = BizTypes, Result = unknown> {
  /** The id of the row: a 64-bit number as text. */
  readonly id: string;
  /** As it was submitted; `undefined` if none was given. */
  readonly bizId: string | undefined;
  /** The same in every run of this row: pass it to services outside the database, so that they do the work once. */
  readonly idempotencyKey: string;
  /** Starts at 1. Lost starts count, snoozes do not. */
  readonly attempt: number;
  /** As it was submitted; `''` if none was given. */
  readonly tenant: string;
  readonly subject: string | undefined;
  /** The fan-out that the row is a child of: the `parentId` of its result. `undefined` for any other row. */
  readonly parentId: string | undefined;
  /** Aborts when the lease is lost, the row is cancelled, the timeout passes, or the worker stops. */
  readonly signal: AbortSignal;
  /**
   * Runs `effects` and writes SUCCESS in one transaction, with the rows of {@link submit}. Await the call or return it; the run waits for it in
   * any case. `effects` may run again when the transaction conflicts with another. `result` is stored with SUCCESS, as a plain result is. If the
   * commit fails, the attempt has failed, unless the handler then gives another verdict. An error that the handler throws after its commit is
   * logged, and changes nothing.
   * @throws LeaseLostError, and commits nothing, when the row is no longer this run's.
   * @throws InvalidResultError, before anything is run, for a result that can't be stored.
   * @throws InvalidArgumentError, and commits nothing, when the run has another verdict, or has ended.
   */
  commit(effects: (trx: Knex.Transaction) => unknown, options?: { readonly result?: Result }): Promise<RunOutcome>;
  /**
   * Reports how far the run is, for those who look at the row. Call it as often as you like: it returns at once, and the last report is written
   * once a second, with those of the worker's other runs. It costs no attempt. A report of a run that no longer holds its row is dropped.
   * @throws InvalidArgumentError for a share outside of 0 to 1, a negative count, or a note of more than 500 characters.
   */
  progress(value: Progress): void;
  /**
   * Counts as a failed attempt. The row runs again after `after`; default: after the delay that the type's `retry` gives. Like `reject` and
   * `snooze`, the call counts at once, whether the handler returns its result or not; of several calls the last one counts.
   * @throws InvalidArgumentError when the run has committed, or has ended.
   */
  retry(options?: { readonly after?: Duration; readonly reason?: string }): RunOutcome;
  /** Makes the row FAILED, with the reason: it is never tried again. */
  reject(reason: string): RunOutcome;
  /** Runs the row again after `after`. It costs no attempt. */
  snooze(after: Duration): RunOutcome;
  /** Adds a follow-up row. It is written in the transaction of this run's success, and discarded if the run does not succeed. */
  submit<Type extends keyof Types & string>(type: Type, context: ContextInput<Types[Type]>, options?: SubmitOptions): void;
}

/** One row of a batch. The fields are those of {@link Run}. */
export interface BatchItem<Context> {
  readonly id: string;
  readonly bizId: string | undefined;
  readonly context: Context;
  readonly idempotencyKey: string;
  readonly attempt: number;
  readonly tenant: string;
  readonly signal: AbortSignal;
}

/**
 * A batch of rows, as its handler sees it. Rows without a verdict of their own have succeeded when the handler returns. When the handler throws, it
 * is called again for smaller parts of these rows, until the row that fails is alone.
 */
export interface Batch<Context, Result = unknown> {
  /**
   * Runs `effects` and writes SUCCESS of every row without another verdict in one transaction; if there is no such row, it does nothing. Await the
   * call; the batch waits for it in any case. A verdict that comes after it is refused.
   * @throws LeaseLostError, and commits nothing, when a row is no longer this batch's.
   * @throws InvalidArgumentError, and commits nothing, when the batch has committed, or has ended.
   */
  commit(effects: (trx: Knex.Transaction) => unknown): Promise<void>;
  /**
   * Sets the result that is stored with the SUCCESS of this row. Call it before `commit`, or before the handler returns.
   * @throws InvalidResultError for a result that can't be stored.
   */
  result(item: BatchItem<Context>, value: Result): void;
  /** Reports how far this row is: see {@link Run.progress}. @throws InvalidArgumentError */
  progress(item: BatchItem<Context>, value: Progress): void;
  /** Counts as a failed attempt of this row, which runs again after `after`; default: after the delay that the type's `retry` gives. */
  retry(item: BatchItem<Context>, options?: { readonly after?: Duration; readonly reason?: string }): void;
  /** Makes this row FAILED, with the reason: it is never tried again. */
  reject(item: BatchItem<Context>, reason: string): void;
  /** Runs this row again after `after`. It costs no attempt. */
  snooze(item: BatchItem<Context>, after: Duration): void;
}

/** The return value of a handler: its result, or an outcome of {@link Run}. A type without a `result` takes anything. */
export type Returned<Result> = [Result] extends [never]
  ? unknown
  : unknown extends Result
    ? unknown
    : Result | RunOutcome | Promise<Result | RunOutcome>;

/** Handles one row of a type. It returns the result or the verdict; if it throws, the attempt has failed. */
export type Handler<Types extends BizTypes, Type extends keyof Types> = (
  context: ContextOutput<Types[Type]>,
  run: Run<Types, ResultOf<Types[Type]>>,
) => Returned<ResultOf<Types[Type]>>;
/** Handles many rows of a type at once. */
export type BatchHandler<Types extends BizTypes, Type extends keyof Types> = (
  items: readonly BatchItem<ContextOutput<Types[Type]>>[],
  batch: Batch<ContextOutput<Types[Type]>, ResultOf<Types[Type]>>,
) => unknown;

/** A handler as registered. */
export interface Registered {
  /** Rows per call. */
  readonly size: number;
  // biome-ignore lint/suspicious/noExplicitAny: contexts of all types meet here
  readonly one?: (context: any, run: Run<any, any>) => unknown;
  // biome-ignore lint/suspicious/noExplicitAny: as above
  readonly many?: (items: readonly BatchItem<any>[], batch: Batch<any, any>) => unknown;
}
