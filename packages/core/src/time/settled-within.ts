import { wait } from './wait.ts';

/**
 * Resolves when the work has settled, or after `ms`: true if it has. It never rejects. For a stop, which nothing that does not answer may hold
 * up.
 */
export async function settledWithin(ms: number, work: Promise<unknown> | undefined): Promise<boolean> {
  const done = new AbortController();
  const settled = Promise.resolve(work).then(
    () => true,
    () => true,
  );
  const late = wait(ms, done.signal).then(
    () => false,
    () => false,
  );
  const inTime = await Promise.race([settled, late]);
  done.abort();
  return inTime;
}
