import { storedError } from '@holdfast/core';
import type { PublishResult } from './publisher.ts';

/** The result of a message that was not acked. */
export function refused(outcome: Exclude<PublishResult['outcome'], 'acked'>, error: unknown): PublishResult {
  return { outcome, error: storedError(error) };
}

/** The result of a message that the broker did not confirm in time. It is unknown whether the broker has it. */
export function publishTimedOut(timeoutMs: number): PublishResult {
  return refused(
    'retriable',
    Object.assign(new Error(`The broker did not confirm within ${timeoutMs} ms; whether it has the message is unknown.`), {
      name: 'PublishTimeout',
      code: 'publish-timeout',
    }),
  );
}
