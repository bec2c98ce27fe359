import { InvalidArgumentError } from '@holdfast/core';

/**
 * The databases that a job's parameter names, as `'1,2'`: numbers from 1, each once, in ascending order.
 * @throws InvalidArgumentError before any work is done
 */
export function parseDatabases(parameter: string, databases: number): readonly number[] {
  const known = databases === 1 ? 'there is database 1' : `there are databases 1 to ${databases}`;
  if (typeof parameter !== 'string' || parameter.trim() === '')
    throw new InvalidArgumentError(`The parameter is ${JSON.stringify(parameter)}; name databases with commas, as in "1,2": ${known}.`);
  const numbers = parameter.split(',').map((part) => {
    const text = part.trim();
    const number = Number(text);
    if (!/^\d{1,6}$/.test(text) || number < 1 || number > databases)
      throw new InvalidArgumentError(
        `The parameter ${JSON.stringify(parameter)} names the database ${JSON.stringify(text)}; ${known}. Nothing was done.`,
      );
    return number;
  });
  return [...new Set(numbers)].sort((a, b) => a - b);
}
