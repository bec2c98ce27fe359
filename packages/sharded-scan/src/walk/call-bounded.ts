import { startTimer, unlessGivenUp } from '@holdfast/core';

/** How long code that ignores its signal is waited for, in ms. */
const graceMs = 1_000;

export interface Bound {
  /** How long the call may take, in ms. */
  readonly ms: number;
  /** The signal that the code has: it aborts when nothing is to be done under the call any more. */
  readonly signal: AbortSignal;
  /** Called when the time has passed. It aborts the signal. */
  readonly onLate: () => void;
}

/**
 * Calls code of the service's and settles as it does; or rejects with the signal's reason, a second after the signal has aborted: code that
 * never answers must not keep a run from ending. Unlike the kernel's `boundedCall`, it leaves code that listens to the signal the time to end,
 * so that the unit is not given away while it still writes.
 */
export async function callBounded<T>(call: () => T, { ms, signal, onLate }: Bound): Promise<Awaited<T>> {
  signal.throwIfAborted();
  const timer = startTimer(ms, onLate);
  try {
    return await unlessGivenUp(Promise.resolve(call()), signal, graceMs);
  } finally {
    timer.clear();
  }
}
