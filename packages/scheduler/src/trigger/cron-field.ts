import { InvalidArgumentError } from '@holdfast/core';

/** The values that one field of a cron expression may have. */
export interface FieldRange {
  readonly name: string;
  readonly least: number;
  readonly most: number;
  /** The names of values, in upper case. */
  readonly names?: Readonly<Record<string, number>>;
  /** Makes two spellings of one value the same: 7 and 0 are both Sunday. */
  readonly value?: (given: number) => number;
}

/** An error of one field of an expression, with the field's text. */
export function fieldError(range: FieldRange, text: string, problem: string): InvalidArgumentError {
  return new InvalidArgumentError(`The ${range.name} of the cron expression is '${text}': ${problem}.`);
}

/**
 * The values of a field, sorted: lists, ranges and steps of numbers and names. A range may go past its end: `22-2` is 22, 23, 0, 1, 2.
 * @throws InvalidArgumentError for what the field may not hold
 */
export function fieldValues(range: FieldRange, text: string): readonly number[] {
  const values = new Set<number>();
  for (const part of text.split(',')) for (const value of partValues(range, part)) values.add(range.value?.(value) ?? value);
  return [...values].sort((a, b) => a - b);
}

function partValues(range: FieldRange, part: string): readonly number[] {
  const { least, most } = range;
  const [span = '', step, more] = part.split('/');
  if (more !== undefined) throw fieldError(range, part, 'a step is written once, as in */5');
  const by = step === undefined ? 1 : stepOf(range, part, step);
  const [from, to, third] = span.split('-');
  if (third !== undefined) throw fieldError(range, part, 'a range has two ends, as in 1-5');
  let first: number;
  let last: number;
  if (span === '*' || (span === '' && step !== undefined)) [first, last] = [least, most];
  else {
    first = fieldValue(range, part, from ?? '');
    last = to === undefined ? (step === undefined ? first : most) : fieldValue(range, part, to);
  }
  const count = most - least + 1;
  if (last < first) last += count;
  const values: number[] = [];
  for (let value = first; value <= last; value += by) values.push(value > most ? value - count : value);
  return values;
}

function stepOf(range: FieldRange, part: string, text: string): number {
  const step = Number(text);
  if (!/^\d+$/.test(text) || step < 1 || step > range.most)
    throw fieldError(range, part, `the step is '${text}'; give a whole number from 1 to ${range.most}`);
  return step;
}

/** One value, as a number or by its name. */
export function fieldValue(range: FieldRange, part: string, text: string): number {
  const named = range.names?.[text.toUpperCase()];
  if (named !== undefined) return named;
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < range.least || value > range.most)
    throw fieldError(range, part, `'${text}' is not ${range.names ? 'a name or ' : ''}a number from ${range.least} to ${range.most}`);
  return value;
}
