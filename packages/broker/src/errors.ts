import { HoldfastError } from '@holdfast/core';

/** The broker refuses a subscription, and would refuse it each time: wrong credentials, no permission, a queue of another shape. */
export class SubscribeRefusedError extends HoldfastError {
  constructor(what: string, cause: unknown) {
    super(`${what}: ${(cause as Error)?.message ?? cause}. Correct the credentials, permissions or options, then subscribe again.`, {
      code: 'subscribe-refused',
      cause,
    });
  }
}
