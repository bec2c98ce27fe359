import { startTimer } from './timer.ts';

/**
 * The result of work of the user's, which gets `signal`. Work that goes on for `graceMs` after the signal has aborted is given up: this rejects
 * with the signal's reason, and what the work does after that counts no more.
 */
export async function unlessGivenUp<T>(work: Promise<T>, signal: AbortSignal, graceMs: number): Promise<T> {
  let stop = (): void => undefined;
  const givenUp = new Promise<never>((_, reject) => {
    const late = (): void => {
      const timer = startTimer(graceMs, () => reject(signal.reason));
      stop = () => timer.clear();
    };
    stop = () => signal.removeEventListener('abort', late);
    if (signal.aborted) late();
    else signal.addEventListener('abort', late, { once: true });
  });
  try {
    return await Promise.race([work, givenUp]);
  } finally {
    stop();
  }
}
