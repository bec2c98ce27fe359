import { cleanText, InvalidArgumentError } from '@holdfast/core';

/** Checks the id of a row. @throws InvalidArgumentError */
export function rowId(what: string, id: string): string {
  if (typeof id !== 'string' || !/^\d{1,19}$/.test(id))
    throw new InvalidArgumentError(
      `${what} is ${JSON.stringify(cleanText(String(id))).slice(0, 60)}; give the id of a row, a number as text.`,
    );
  return id;
}
