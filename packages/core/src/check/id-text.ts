import { InvalidArgumentError } from '../errors/errors.ts';
import { shownValue } from '../errors/shown-value.ts';

const greatest = 2n ** 63n - 1n;

/**
 * Checks that a value is the id of a row: a 64-bit number as decimal text, such as `'42'`. Returns it without leading zeros, so that it can
 * stand in a statement and equals the id that a list returns.
 * @param name the caller's name for the value, used in the error
 * @throws InvalidArgumentError with the value
 */
export function idText(name: string, value: unknown): string {
  if (typeof value === 'string' && /^\d{1,19}$/.test(value)) {
    const id = BigInt(value);
    if (id <= greatest) return id.toString();
  }
  const shown = `${shownValue(value)}${typeof value === 'string' ? '' : ` (${typeof value})`}`;
  throw new InvalidArgumentError(`${name} is ${shown}; give the id of a row: a number as decimal text, such as '42'.`);
}
