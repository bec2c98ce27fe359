import { wait } from '../time/wait.ts';
import { isBusy } from './transient.ts';

/**
 * Runs a statement of SQLite, and runs it again while the file is busy, without blocking the event loop. The driver is synchronous: with a
 * `busy_timeout` above 0 it would block the event loop, and with it the COMMIT that it waits for, if that is of the same process.
 * @param withinMs after this time the error of a busy file is thrown
 */
export async function retryBusy<T>(statement: () => T, withinMs: number): Promise<T> {
  const started = performance.now();
  for (let pauseMs = 1; ; pauseMs = Math.min(pauseMs * 2, 50)) {
    try {
      return statement();
    } catch (error) {
      if (!isBusy(error) || performance.now() - started > withinMs) throw error;
    }
    await wait(pauseMs * (0.5 + Math.random()));
  }
}
