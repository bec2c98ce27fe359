import { describeIssues, jsonText } from '@holdfast/core';
import type { BizType } from '../biz-type.ts';
import { InvalidResultError } from '../errors.ts';

/** A result as it is stored: JSON, or `undefined` for nothing. */
export type ResultJson = string | undefined;

/**
 * Checks what a handler of a type returned, and writes it as JSON. Costs a promise only where the schema's validation does. Nothing is stored
 * for a type that deletes its rows, and for `undefined`.
 * @throws InvalidResultError
 */
export function resultJson(
  name: string,
  type: BizType<unknown, unknown>,
  maxBytes: number,
  result: unknown,
): ResultJson | Promise<ResultJson> {
  if (result === undefined || !type.keep) return undefined;
  if (type.result === undefined) return write(name, maxBytes, result);
  const judged = type.result['~standard'].validate(result);
  const judge = (given: Awaited<typeof judged>): ResultJson => {
    if (given.issues)
      throw new InvalidResultError(`The result of ${name} does not fit the type's result schema: ${describeIssues(given.issues)}.`);
    return given.value === undefined ? undefined : write(name, maxBytes, given.value);
  };
  return judged instanceof Promise ? judged.then(judge) : judge(judged);
}

function write(name: string, maxBytes: number, result: unknown): string {
  const json = jsonText(result, maxBytes, 'maxResultBytes');
  if ('problem' in json) throw new InvalidResultError(`The result of ${name} ${json.problem}`, json.cause);
  return json.text;
}
