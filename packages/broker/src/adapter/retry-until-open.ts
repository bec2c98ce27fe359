import { wait } from '@holdfast/core';

/**
 * Runs `open` until it succeeds or `signal` aborts, with pauses that grow from 100 ms to 5 s, which hold the process open. A broker that can't
 * be reached yet is not an error.
 */
export async function retryUntilOpen(open: () => Promise<void>, signal: AbortSignal, onError: (error: unknown) => void): Promise<void> {
  for (let pauseMs = 100; !signal.aborted; pauseMs = Math.min(pauseMs * 2, 5_000)) {
    try {
      return await open();
    } catch (error) {
      onError(error);
    }
    await wait(pauseMs, signal).catch(() => undefined);
  }
}
