import { InvalidArgumentError } from '../errors/errors.ts';

/**
 * Checks the value that a function of the service's returned, where nothing may wait for a promise. Returns the value.
 * @param hint the end of the message: what to do instead
 * @throws InvalidArgumentError if it is a promise, whose rejection would otherwise end the process. A query of knex, which has a `then`, too,
 *   is not run.
 */
export function notAPromise<T>(name: string, value: T, hint: string): T {
  if (!(value instanceof Promise)) return value;
  value.catch(() => undefined);
  throw new InvalidArgumentError(`${name} returned a promise, and nothing waits for it; ${hint}.`);
}
