import { unfitText } from '../errors/clean-text.ts';
import { InvalidArgumentError } from '../errors/errors.ts';
import { shownValue } from '../errors/shown-value.ts';

/** Checks a name or key that a column stores. @throws InvalidArgumentError unless it has 1 to `max` characters, all of them storable */
export function keyText(what: string, text: string, max: number = 191): string {
  if (typeof text !== 'string' || text.length === 0 || text.length > max)
    throw new InvalidArgumentError(`${what} is ${shownValue(text)}; give a text of 1 to ${max} characters.`);
  const unfit = unfitText(text);
  if (unfit) throw new InvalidArgumentError(`${what} holds ${unfit}; remove it.`);
  return text;
}
