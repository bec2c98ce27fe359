import { HoldfastError, isConnectionError, isTransient, type StoredError, storedError } from '@holdfast/core';
import { RowsNotTakenError } from '../errors.ts';
import { judgeResults } from './row-result.ts';

export interface HandedOver<Row> {
  readonly handled: number;
  readonly failures: readonly { readonly row: Row; readonly error: StoredError }[];
}

export interface HandOverOptions {
  /** Aborts when the lease of the unit is lost. */
  readonly signal: AbortSignal;
  /** Called at each outage. If it throws, the retries end with that error. */
  readonly onOutage: (error: unknown) => void;
  readonly pause: (ms: number) => Promise<void>;
}

/**
 * Hands rows to `process`. If it throws, the batch is bisected: the halves are handed over again, down to the single rows that fail.
 * An outage, thrown or returned for a row, is not blamed on a row: the rows concerned are handed over again, with growing pauses.
 * @throws InvalidArgumentError if `process` returns anything but a `ProcessResult`
 */
export async function handOver<Row>(
  rows: readonly Row[],
  process: (rows: readonly Row[]) => unknown,
  options: HandOverOptions,
): Promise<HandedOver<Row>> {
  const { signal, onOutage, pause } = options;
  const failures: { row: Row; error: StoredError }[] = [];
  let left = rows;
  for (let pauseMs = 100; ; pauseMs = Math.min(pauseMs * 2, 10_000)) {
    signal.throwIfAborted();
    let returned: unknown;
    let thrown: { readonly error: unknown } | undefined;
    try {
      // A copy: the results are for the rows in their order, whatever process does to its array.
      returned = await process([...left]);
    } catch (error) {
      thrown = { error };
    }
    if (thrown) {
      const { error } = thrown;
      signal.throwIfAborted();
      if (!isOutage(error)) {
        if (left.length === 1) failures.push({ row: left[0] as Row, error: storedError(error) });
        else
          for (const half of [left.slice(0, left.length >> 1), left.slice(left.length >> 1)])
            failures.push(...(await handOver(half, process, options)).failures);
        return { handled: rows.length - failures.length, failures };
      }
      onOutage(error);
    } else {
      const outcome = sortByResult(left, returned);
      failures.push(...outcome.failures);
      if (outcome.again.length === 0) return { handled: rows.length - failures.length, failures };
      left = outcome.again;
      onOutage(outcome.outage);
    }
    await pause(pauseMs);
  }
}

/** Sorts the rows by the results that `process` returned. */
function sortByResult<Row>(rows: readonly Row[], returned: unknown) {
  const failures: { row: Row; error: StoredError }[] = [];
  const again: Row[] = [];
  let outage: unknown;
  for (const [i, judged] of judgeResults(returned, rows.length).entries()) {
    const row = rows[i] as Row;
    if (judged.follows === 'handled') continue;
    if (judged.follows === 'again') {
      again.push(row);
      outage = new RowsNotTakenError(judged.outcome, judged.error.message);
    } else if (judged.follows === 'failed') failures.push({ row, error: judged.error });
    else if (isOutage(judged.error)) {
      again.push(row);
      outage = judged.error;
    } else failures.push({ row, error: storedError(judged.error) });
  }
  return { failures, again, outage };
}

/** True if a database, a broker or another service was unavailable, so that no row can be blamed for the error. */
export function isOutage(error: unknown): boolean {
  return isConnectionError(error) || isTransient(error) || (HoldfastError.is(error) && error.retryable);
}
