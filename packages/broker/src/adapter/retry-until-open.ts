import { wait } from '@holdfast/core';

/** Runs `open` until it succeeds, with growing pauses, or until `signal` aborts: a broker that is not there is no error yet. */
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
