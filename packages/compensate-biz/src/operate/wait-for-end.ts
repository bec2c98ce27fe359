import { type Duration, durationMs, type EventSource, startTimer } from '@holdfast/core';
import { WaitTimeoutError } from '../errors.ts';
import type { BizEvents } from '../events.ts';
import { hasEnded } from '../table/statuses.ts';

/** Options of {@link CompensateBiz.waitFor}. */
export interface WaitOptions {
  /** How long to wait. After that the call rejects with WaitTimeoutError. Default 30 s. */
  readonly timeout?: Duration;
  /** Ends the wait: the call rejects with `signal.reason`. The row is not affected. Default none. */
  readonly signal?: AbortSignal;
}

/** Pauses between two reads, in ms: the first, and the longest. */
const pollMs = { first: 20, most: 1_000 } as const;

/**
 * Reads a row until it has ended: at once when it ends in this process, and otherwise less and less often, at last once a second. Returns
 * `undefined` if the row is not there.
 * @throws WaitTimeoutError, and the reason of the signal
 */
export async function waitForEnd<Row extends { readonly status: string }>(
  id: string,
  read: () => Promise<Row | undefined>,
  events: EventSource<BizEvents>,
  { timeout = '30s', signal }: WaitOptions,
): Promise<Row | undefined> {
  const timeoutMs = durationMs(timeout, 'timeout');
  const deadline = performance.now() + timeoutMs;
  let nudge: () => void = () => undefined;
  const ifOurs = (event: { readonly id: string }): void => {
    if (event.id === id) nudge();
  };
  const unlisten = [events.on('task:succeeded', ifOurs), events.on('task:dead', ifOurs)];
  try {
    for (let pauseMs: number = pollMs.first; ; pauseMs = Math.min(pauseMs * 1.5, pollMs.most)) {
      signal?.throwIfAborted();
      // Made before the row is read, so that an end in between is not missed.
      const nudged = new Promise<void>((resolve) => {
        nudge = resolve;
      });
      const row = await read();
      if (!row || hasEnded(row.status)) return row;
      const leftMs = deadline - performance.now();
      if (leftMs <= 0) throw new WaitTimeoutError(id, timeoutMs, row.status);
      await sleep(Math.min(pauseMs, leftMs), nudged, signal);
    }
  } finally {
    for (const end of unlisten) end();
  }
}

function sleep(ms: number, nudged: Promise<void>, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const end = (): void => {
      timer.clear();
      signal?.removeEventListener('abort', aborted);
      resolve();
    };
    const aborted = (): void => {
      timer.clear();
      reject(signal?.reason);
    };
    const timer = startTimer(ms, end);
    signal?.addEventListener('abort', aborted, { once: true });
    void nudged.then(end);
  });
}
