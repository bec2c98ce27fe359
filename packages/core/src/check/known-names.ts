import { InvalidArgumentError } from '../errors/errors.ts';

/**
 * Refuses options and filters that do not exist. Types see a misspelt name only where an object is written in place: `tenat` in a filter that
 * is passed as a variable would select the rows of all tenants.
 * @throws InvalidArgumentError
 */
export function requireKnown(what: string, given: object, known: readonly string[]): void {
  for (const name in given)
    if (!known.includes(name) && (given as Readonly<Record<string, unknown>>)[name] !== undefined)
      throw new InvalidArgumentError(`${what} has no ${name}; it has ${known.join(', ')}.`);
}
