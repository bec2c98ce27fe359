import { wait } from '@holdfast/core';

/** How long Redis may take for what does not block. */
const answerMs = 5_000;

/**
 * A command whose connection is lost may never end in ioredis, and a loop that waits for it never goes on. What it did is unknown
 * then.
 */
export async function answered<T>(command: Promise<T>): Promise<T> {
  const done = new AbortController();
  command.catch(() => undefined);
  const late = wait(answerMs, done.signal).then(() => {
    throw new Error(`Redis did not answer within ${answerMs} ms.`);
  });
  late.catch(() => undefined);
  return Promise.race([command, late]).finally(() => done.abort(new Error('answered')));
}
