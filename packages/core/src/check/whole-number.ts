import { InvalidArgumentError } from '../errors/errors.ts';
import { shownValue } from '../errors/shown-value.ts';

/**
 * Checks that a value is a whole number in a range, and returns it.
 * @param name the caller's name for the value, used in the error
 * @param range `least` is 1 unless given; without `most` any safe integer from `least` on is valid
 * @throws InvalidArgumentError with the value and the range
 */
export function wholeNumber(name: string, value: unknown, range: { readonly least?: number; readonly most?: number } = {}): number {
  const { least = 1, most } = range;
  if (Number.isSafeInteger(value) && (value as number) >= least && (value as number) <= (most ?? Number.MAX_SAFE_INTEGER))
    return value as number;
  const valid = most === undefined ? `of at least ${grouped(least)}` : `from ${grouped(least)} to ${grouped(most)}`;
  throw new InvalidArgumentError(`${name} is ${shownValue(value)}; give a whole number ${valid}.`);
}

function grouped(n: number): string {
  return n.toLocaleString('en-US');
}
