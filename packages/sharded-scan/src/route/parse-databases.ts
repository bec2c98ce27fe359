import { InvalidArgumentError, shownValue } from '@holdfast/core';

/**
 * Parses a job's parameter such as `'1,2'` into database numbers: from 1, without duplicates, in ascending order.
 * @throws InvalidArgumentError if the parameter is empty or names a database that does not exist
 */
export function parseDatabases(parameter: string, databases: number): readonly number[] {
  const known = databases === 1 ? 'there is database 1' : `there are databases 1 to ${databases}`;
  if (typeof parameter !== 'string' || parameter.trim() === '')
    throw new InvalidArgumentError(
      `The parameter is ${shownValue(parameter)}; list database numbers separated by commas, as in "1,2": ${known}.`,
    );
  const numbers = parameter.split(',').map((part) => {
    const text = part.trim();
    const number = Number(text);
    if (!/^\d{1,6}$/.test(text) || number < 1 || number > databases)
      throw new InvalidArgumentError(
        `The parameter ${shownValue(parameter)} names the database ${JSON.stringify(text)}; ${known}. Nothing was done.`,
      );
    return number;
  });
  return [...new Set(numbers)].sort((a, b) => a - b);
}
