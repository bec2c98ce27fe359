import { InvalidArgumentError } from '@holdfast/core';

/** A 64-bit id as an SQL literal. @throws InvalidArgumentError */
export function integerId(id: string): string {
  if (typeof id !== 'string' || !/^\d{1,19}$/.test(id))
    throw new InvalidArgumentError(`${JSON.stringify(id)} is no id; ids are decimal text.`);
  return id;
}
