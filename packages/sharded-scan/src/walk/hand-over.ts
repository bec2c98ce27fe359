import { HoldfastError, isConnectionError, isTransient, type StoredError, storedError } from '@holdfast/core';

/** What became of one row: nothing, or an error, which is kept with its key. */
export type RowResult = undefined | Error;

export interface HandedOver<Row> {
  readonly handled: number;
  readonly failures: readonly { readonly row: Row; readonly error: StoredError }[];
}

export interface HandOverOptions {
  /** Aborts when the unit is lost. */
  readonly signal: AbortSignal;
  /** Told of each outage. What it throws ends it. */
  readonly onOutage: (error: unknown) => void;
  readonly pause: (ms: number) => Promise<void>;
}

/**
 * Hands rows to `process`. Where it throws, the batch is halved until the row is found that it throws for; the others are handed over
 * again, in halves. What is an outage, thrown or returned for a row, is no row's fault: those rows are handed over again, with pauses.
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
      if (outcome.again.length === 0) return { handled: rows.length - failures.length, failures };
      left = outcome.again;
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

/** What `process` says of each row, if it does. */
function outcomes<Row>(rows: readonly Row[], results: unknown) {
  const failures: { row: Row; error: StoredError }[] = [];
  const again: Row[] = [];
  let outage: unknown;
  for (const [i, result] of (Array.isArray(results) ? results : []).entries()) {
    const row = rows[i];
    if (!(result instanceof Error) || row === undefined) continue;
    if (isOutage(result)) {
      again.push(row);
      outage = result;
    } else failures.push({ row, error: storedError(result) });
  }
  return { failures, again, outage };
}

/** Whether something that both sides need was away: nothing that a row could be blamed for. */
export function isOutage(error: unknown): boolean {
  return isConnectionError(error) || isTransient(error) || (HoldfastError.is(error) && error.retryable);
}
