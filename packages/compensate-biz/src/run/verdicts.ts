import {
  type Backoff,
  type Duration,
  durationMs,
  propertyOf,
  type RunningRow,
  type StoredError,
  storedError,
  type Verdict,
} from '@holdfast/core';

/** The verdict on a run that succeeded, with its result as JSON. */
export function doneVerdict(result: string | undefined): Verdict {
  return result === undefined ? { outcome: 'done' } : { outcome: 'done', result };
}

/** The verdict on a failed attempt: a retry as the schedule says, or dead when the schedule is used up. */
export function failed(retry: Backoff, attempts: number, error: StoredError, afterMs?: number): Verdict {
  const delayMs = retry.delayMs(attempts + 1);
  if (delayMs === undefined) return { outcome: 'dead', reason: 'exhausted', error };
  return { outcome: 'retry', afterMs: afterMs ?? delayMs, error };
}

/**
 * The verdict on a thrown error. `retryable: false` means that trying again is pointless. A run that the worker has interrupted, since it is
 * stopping, has not failed: its row is given back, and the start is not counted. A run that was longer than the timeout has failed, also at a stop.
 */
export function thrown(retry: Backoff, { row: { attempts }, interrupted }: RunningRow, error: unknown): Verdict {
  const code = propertyOf(error, 'code');
  if (interrupted && code !== 'handler-timeout') return { outcome: 'release' };
  if (propertyOf(error, 'retryable') === false && code !== 'lease-lost')
    return { outcome: 'dead', reason: 'rejected', error: storedError(error) };
  return failed(retry, attempts, storedError(error));
}

/** The verdict of a handler that asks for another try, which counts as a failed attempt. */
export function retryVerdict(
  retry: Backoff,
  attempts: number,
  options: { readonly after?: Duration; readonly reason?: string } = {},
): Verdict {
  const error = storedError(
    Object.assign(new Error(options.reason ?? 'the handler asked for another try'), { name: 'Retry', code: 'retry' }),
  );
  return failed(retry, attempts, error, options.after === undefined ? undefined : durationMs(options.after, 'after'));
}

/** The verdict of a handler that gives its row up. */
export function rejectVerdict(reason: string): Verdict {
  return {
    outcome: 'dead',
    reason: 'rejected',
    error: storedError(Object.assign(new Error(reason), { name: 'Rejected', code: 'rejected' })),
  };
}

/** The verdict of a handler that asks to run later, at no cost. */
export function snoozeVerdict(after: Duration): Verdict {
  return { outcome: 'snooze', afterMs: Math.max(1, durationMs(after, 'after')) };
}
