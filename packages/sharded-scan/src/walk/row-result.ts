import { types } from 'node:util';
import { InvalidArgumentError, type StoredError } from '@holdfast/core';

/**
 * The result of one row: `undefined` if it was handled; the error that it failed with, which is stored with the row's key; or a publisher's
 * result for it.
 */
export type RowResult = undefined | Error | RowOutcome;

/**
 * A publisher's result for one row; a `PublishResult` of `@holdfast/broker` is one. `acked`: the row is handled. `poison`: it has failed.
 * `retriable`, `backpressure` and `fatal` blame no row: the row is handed over again, for at most the scan's `outage`.
 */
export type RowOutcome =
  | { readonly outcome: 'acked' }
  | { readonly outcome: 'retriable' | 'backpressure' | 'poison' | 'fatal'; readonly error: StoredError };

/**
 * The value that `process` may return: nothing, or one {@link RowResult} per row. A number, as `unit.update` returns it, says nothing about
 * rows.
 */
// biome-ignore lint/suspicious/noConfusingVoidType: a function without a return statement
export type ProcessResult = void | undefined | number | readonly RowResult[];

/** The outcomes of {@link RowOutcome} by what follows. */
const outcomes: Readonly<Record<RowOutcome['outcome'], 'handled' | 'failed' | 'again'>> = {
  acked: 'handled',
  poison: 'failed',
  retriable: 'again',
  backpressure: 'again',
  fatal: 'again',
};

/** A result as it counts. */
export type Judged =
  | { readonly follows: 'handled' }
  | { readonly follows: 'failed' | 'again'; readonly outcome: string; readonly error: StoredError }
  | { readonly follows: 'threw'; readonly error: Error };

const handled: Judged = { follows: 'handled' };

/**
 * Judges what `process` returned for `count` rows.
 * @throws InvalidArgumentError for anything but a {@link ProcessResult}: it may say that rows failed, in a form that is not understood
 */
export function judgeResults(returned: unknown, count: number): readonly Judged[] {
  if (returned === undefined || typeof returned === 'number') return new Array<Judged>(count).fill(handled);
  if (!Array.isArray(returned)) throw notResults(shown(returned));
  if (returned.length !== count) throw notResults(`an array of ${returned.length} results for ${count} rows`);
  // By index: forEach and map leave out the holes of an array.
  return Array.from({ length: count }, (_, i) => judge(returned[i], i, count));
}

function judge(result: unknown, i: number, count: number): Judged {
  if (result === undefined) return handled;
  // instanceof is false for an error of another context.
  if (result instanceof Error || types.isNativeError(result)) return { follows: 'threw', error: result };
  const { outcome, error } = (typeof result === 'object' && result !== null ? result : {}) as { outcome?: unknown; error?: unknown };
  const follows = typeof outcome === 'string' && Object.hasOwn(outcomes, outcome) ? outcomes[outcome as RowOutcome['outcome']] : undefined;
  if (follows === undefined) throw notResults(`an array of ${count} results, of which number ${i + 1} is ${shown(result)}`);
  if (follows === 'handled') return handled;
  return { follows, outcome: outcome as string, error: storedOf(error, outcome as string) };
}

function storedOf(error: unknown, outcome: string): StoredError {
  const { name, code, message } = (error ?? {}) as Partial<StoredError>;
  return {
    name: typeof name === 'string' ? name : 'Error',
    ...(typeof code === 'string' ? { code } : {}),
    message: typeof message === 'string' ? message : `The publisher answered ${outcome}.`,
  };
}

/** What was returned, without contents that may be personal. */
function shown(value: unknown): string {
  if (value === null || typeof value === 'boolean') return String(value);
  if (types.isNativeError(value)) return `the error ${JSON.stringify(value.message.slice(0, 80))}`;
  if (typeof value !== 'object') return `a ${typeof value}`;
  if (Array.isArray(value)) return 'an array';
  return `an object { ${Object.keys(value).slice(0, 5).join(', ')} }`;
}

function notResults(what: string): InvalidArgumentError {
  return new InvalidArgumentError(
    `process returned ${what}, so nobody knows which rows were handled; nothing was recorded. Return nothing, or an array with one result per row: undefined for a handled row, an Error for one that failed, or a publisher's result. Results of Promise.allSettled become such an array by results.map((one) => (one.status === 'rejected' ? one.reason : undefined)).`,
  );
}
