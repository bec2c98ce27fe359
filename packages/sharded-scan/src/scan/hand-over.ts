import { HoldfastError, isConnectionError, isTransient, type StoredError, storedError, wait } from '@holdfast/core';

/** What became of one row: nothing, or an error, which is kept with its key. */
export type RowResult = undefined | Error;

export interface HandedOver<Row> {
  readonly handled: number;
  readonly failures: readonly { readonly row: Row; readonly error: StoredError }[];
}

/**
 * Hands rows to `process`. Where it throws, the batch is halved until the row is found that it throws for; the others are handed over
 * again, in halves. What is an outage is no row's fault: it is tried again, with pauses, until `signal` aborts.
 */
export async function handOver<Row>(
  rows: readonly Row[],
  process: (rows: readonly Row[]) => unknown,
  signal: AbortSignal,
  onOutage: (error: unknown) => void,
): Promise<HandedOver<Row>> {
  let results: unknown;
  for (let pauseMs = 100; ; pauseMs = Math.min(pauseMs * 2, 10_000)) {
    signal.throwIfAborted();
    try {
      results = await process(rows);
      break;
    } catch (error) {
      signal.throwIfAborted();
      if (isOutage(error)) {
        onOutage(error);
        await wait(pauseMs, signal);
        continue;
      }
      if (rows.length === 1) return { handled: 0, failures: [{ row: rows[0] as Row, error: storedError(error) }] };
      const half = rows.length >> 1;
      const first = await handOver(rows.slice(0, half), process, signal, onOutage);
      const second = await handOver(rows.slice(half), process, signal, onOutage);
      return { handled: first.handled + second.handled, failures: [...first.failures, ...second.failures] };
    }
  }
  if (!Array.isArray(results)) return { handled: rows.length, failures: [] };
  const failures = rows.flatMap((row, i) => {
    const result = (results as readonly RowResult[])[i];
    return result instanceof Error ? [{ row, error: storedError(result) }] : [];
  });
  return { handled: rows.length - failures.length, failures };
}

/** Whether something that both sides need was away: nothing that a row could be blamed for. */
export function isOutage(error: unknown): boolean {
  return isConnectionError(error) || isTransient(error) || (HoldfastError.is(error) && error.retryable);
}
