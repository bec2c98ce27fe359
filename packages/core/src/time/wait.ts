import { startTimer } from './timer.ts';

/**
 * Resolves after `ms`, or rejects with `signal.reason`. It keeps the process alive until then: a caller may await it, and a process with
 * nothing else to do would end in the middle of its work (exit code 13).
 */
export function wait(ms: number, signal?: AbortSignal): Promise<void> {
  return pause(ms, signal, true);
}

/** As {@link wait}, but it does not keep the process alive: for loops that no caller awaits. */
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
    const timer = startTimer(ms, done);
    if (!hold) timer.unref();
    const aborted = (): void => {
      timer.clear();
      reject(signal?.reason);
    };
    signal?.addEventListener('abort', aborted, { once: true });
  });
}
