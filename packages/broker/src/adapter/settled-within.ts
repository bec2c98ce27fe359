import { wait } from '@holdfast/core';

/** Resolves when the work has settled, or after `ms`. For clean-up that a server which does not answer must not hold up. */
export async function settledWithin(ms: number, work: Promise<unknown> | undefined): Promise<void> {
  const done = new AbortController();
  const quiet = Promise.resolve(work).then(
    () => undefined,
    () => undefined,
  );
  await Promise.race([quiet, wait(ms, done.signal).catch(() => undefined)]);
  done.abort();
}
