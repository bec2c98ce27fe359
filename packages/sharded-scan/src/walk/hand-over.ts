import { HoldfastError, isConnectionError, isTransient, type StoredError, storedError } from '@holdfast/core';

/** The result of one row: `undefined` if it was handled, or the error that it failed with, which is stored with the row's key. */
export type RowResult = undefined | Error;

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
    try {
      const outcome = outcomes(left, await process(left));
      failures.push(...outcome.failures);
      if (outcome.retry.length === 0) return { handled: rows.length - failures.length, failures };
      left = outcome.retry;
      onOutage(outcome.outage);
    } catch (error) {
      signal.throwIfAborted();
      if (!isOutage(error)) {
        if (left.length === 1) failures.push({ row: left[0] as Row, error: storedError(error) });
        else
          for (const half of [left.slice(0, left.length >> 1), left.slice(left.length >> 1)])
            failures.push(...(await handOver(half, process, options)).failures);
        return { handled: rows.length - failures.length, failures };
      }
      onOutage(error);
    }
    await pause(pauseMs);
  }
}

/** Sorts the rows by the results that `process` returned, if it returned any. */
function outcomes<Row>(rows: readonly Row[], results: unknown) {
  const failures: { row: Row; error: StoredError }[] = [];
  const retry: Row[] = [];
  let outage: unknown;
  for (const [i, result] of (Array.isArray(results) ? results : []).entries()) {
    const row = rows[i];
    if (!(result instanceof Error) || row === undefined) continue;
    if (isOutage(result)) {
      retry.push(row);
      outage = result;
    } else failures.push({ row, error: storedError(result) });
  }
  return { failures, retry, outage };
}

/** True if a database, a broker or another service was unavailable, so that no row can be blamed for the error. */
export function isOutage(error: unknown): boolean {
  return isConnectionError(error) || isTransient(error) || (HoldfastError.is(error) && error.retryable);
}
