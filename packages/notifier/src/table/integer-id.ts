import { InvalidArgumentError } from '@holdfast/core';

/** Returns a 64-bit id for use as an SQL literal. @throws InvalidArgumentError */
export function integerId(id: string): string {
  if (typeof id !== 'string' || !/^\d{1,19}$/.test(id))
    throw new InvalidArgumentError(`${JSON.stringify(id)} is not a valid id; ids are decimal strings.`);
  return id;
}
