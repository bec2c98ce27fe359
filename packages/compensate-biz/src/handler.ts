import { type Backoff, type Duration, durationMs, type SqlRunner, type StoredError, storedError, type Verdict } from '@holdfast/core';
import type { Knex } from 'knex';
import type { BizTypes, ContextInput } from './biz-type.ts';
import type { SubmitOptions } from './submit/new-row.ts';

const mark: unique symbol = Symbol('outcome');

/** What a handler returns to say anything but plain success. Made by {@link Run}. */
export interface RunOutcome {
  readonly [mark]: Verdict | 'committed';
}

export function outcomeOf(value: unknown): Verdict | 'committed' | undefined {
  return typeof value === 'object' && value !== null && mark in value ? (value as RunOutcome)[mark] : undefined;
}

export function outcome(verdict: Verdict | 'committed'): RunOutcome {
  return { [mark]: verdict };
}

/** One run of one row, as its handler sees it. */
export interface Run<Types extends BizTypes = BizTypes> {
  readonly id: string;
  readonly bizId: string | undefined;
  /** The same in every run of this row: pass it to services outside the database. */
  readonly idempotencyKey: string;
  /** From 1. Lost starts count, snoozes do not. */
  readonly attempt: number;
  readonly tenant: string;
  readonly subject: string | undefined;
  /** Aborts when the lease is lost, the row is cancelled, the timeout passes, or the worker stops. */
  readonly signal: AbortSignal;
  /**
   * Runs `effects` and writes SUCCESS in one transaction, with what was {@link submit}ted. Return its result. `effects`
   * may run again when the transaction loses a race.
   * @throws LeaseLostError, and commits nothing, when the row is no longer this run's.
   */
  commit(effects: (trx: Knex.Transaction) => unknown): Promise<RunOutcome>;
  /** Counts as a failed attempt; runs again after `after`, by default as the type's `retry` says. */
  retry(options?: { readonly after?: Duration; readonly reason?: string }): RunOutcome;
  /** Never to be tried again: FAILED, with the reason. */
  reject(reason: string): RunOutcome;
  /** Again later; costs no attempt. */
  snooze(after: Duration): RunOutcome;
  /** A follow-up, written in the same transaction as this run's success; nothing comes of it otherwise. */
  submit<Type extends keyof Types & string>(type: Type, context: ContextInput<Types[Type]>, options?: SubmitOptions): void;
}

/** One row of a batch. */
export interface BatchItem<Context> {
  readonly id: string;
  readonly bizId: string | undefined;
  readonly context: Context;
  readonly idempotencyKey: string;
  readonly attempt: number;
  readonly tenant: string;
  readonly signal: AbortSignal;
}

/** A batch of rows, as its handler sees it. Rows without a verdict of their own have succeeded when it returns. */
export interface Batch<Context> {
  /** Runs `effects` and writes SUCCESS of every row without another verdict in one transaction. */
  commit(effects: (trx: Knex.Transaction) => unknown): Promise<void>;
  /** These rows run again later, as failed. */
  retry(item: BatchItem<Context>, options?: { readonly after?: Duration; readonly reason?: string }): void;
  /** These rows can never succeed: FAILED, with the reason. */
  reject(item: BatchItem<Context>, reason: string): void;
  /** These rows run again later; it does not count as a failure. */
  snooze(item: BatchItem<Context>, after: Duration): void;
}

/** The verdict on a failed attempt: again as the schedule says, or dead when it is used up. */
export function failed(retry: Backoff, attempts: number, error: StoredError, afterMs?: number): Verdict {
  const delayMs = retry.delayMs(attempts + 1);
  if (delayMs === undefined) return { outcome: 'dead', reason: 'exhausted', error };
  return { outcome: 'retry', afterMs: afterMs ?? delayMs, error };
}

/** The verdict on something thrown. `retryable: false` means that trying again is pointless. */
export function thrown(retry: Backoff, attempts: number, error: unknown): Verdict {
  const { retryable, code } = (error ?? {}) as { retryable?: unknown; code?: unknown };
  if (retryable === false && code !== 'lease-lost') return { outcome: 'dead', reason: 'rejected', error: storedError(error) };
  return failed(retry, attempts, storedError(error));
}

export function retryVerdict(
  retry: Backoff,
  attempts: number,
  options: { readonly after?: Duration; readonly reason?: string } = {},
): Verdict {
  const error: StoredError = { name: 'Retry', code: 'retry', message: options.reason ?? 'the handler asked for another try' };
  return failed(retry, attempts, error, options.after === undefined ? undefined : durationMs(options.after, 'after'));
}

export function rejectVerdict(reason: string): Verdict {
  return {
    outcome: 'dead',
    reason: 'rejected',
    error: storedError(Object.assign(new Error(reason), { name: 'Rejected', code: 'rejected' })),
  };
}

export function snoozeVerdict(after: Duration): Verdict {
  return { outcome: 'snooze', afterMs: Math.max(1, durationMs(after, 'after')) };
}

/** Something to be written in the transaction of a success. */
export type Effects = (trx: Knex.Transaction, sql: SqlRunner) => unknown;
