import { HoldfastError, isConnectionError, isTransient } from '@holdfast/core';
import { refused } from '../port/publish-results.ts';
import type { PublishResult } from '../port/publisher.ts';

/** The result of messages whose transaction failed. */
export function databaseRefusal(error: unknown): PublishResult {
  // Any other error is not the messages' fault, and trying again can't fix it: a missing table, a missing permission.
  const retriable = isConnectionError(error) || isTransient(error) || (HoldfastError.is(error) && error.retryable);
  return refused(retriable ? 'retriable' : 'fatal', error);
}
