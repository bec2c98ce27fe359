import { InvalidArgumentError } from '../errors/errors.ts';
import { shownValue } from '../errors/shown-value.ts';
import { keyText } from './key-text.ts';

/**
 * Checks a key that may also be given as a number, and returns it as text.
 * @param what the caller's name for the key, used in the error
 * @throws InvalidArgumentError unless it is a text that {@link keyText} accepts, a safe integer or a bigint. Another number was rounded before it
 *   came here, so that two keys could be one.
 */
export function keyAsText(what: string, key: unknown, max: number = 191): string {
  if (typeof key === 'string' || typeof key === 'bigint' || Number.isSafeInteger(key)) return keyText(what, String(key), max);
  throw new InvalidArgumentError(
    `${what} is ${shownValue(key)}; give a text of 1 to ${max} characters, a bigint, or a whole number from -(2^53 - 1) to 2^53 - 1.`,
  );
}
