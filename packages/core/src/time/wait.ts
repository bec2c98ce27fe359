/**
 * Resolves after `ms`, or rejects with `signal.reason`. Holds the process open until then: a caller of ours may wait for it, and a process that
 * has nothing else to do would end in the middle of its work (exit code 13).
 */
export function wait(ms: number, signal?: AbortSignal): Promise<void> {
  return pause(ms, signal, true);
}

/** The same for a loop of our own that nobody waits for: it does not hold the process open. */
export function idle(ms: number, signal?: AbortSignal): Promise<void> {
  return pause(ms, signal, false);
}

function pause(ms: number, signal: AbortSignal | undefined, hold: boolean): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const done = (): void => {
      signal?.removeEventListener('abort', aborted);
      resolve();
    };
    const timer = setTimeout(done, Math.min(ms, 2 ** 31 - 1));
    if (!hold) timer.unref();
    const aborted = (): void => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    signal?.addEventListener('abort', aborted, { once: true });
  });
}
