import { HoldfastError } from '../errors/holdfast-error.ts';

const cycle: Record<string, unknown> = {};
cycle.self = cycle;

/** Values that callers without types pass as an id or a key, by what they are. */
export const oddValues: Readonly<Record<string, unknown>> = {
  null: null,
  'an empty text': '',
  'a NUL': `a${String.fromCharCode(0)}b`,
  'a lone surrogate': String.fromCharCode(0xd800),
  'a text that is too long': 'x'.repeat(3_000),
  'a text of digits': '19',
  'too many digits': '9'.repeat(25),
  'a number': 19,
  'a bigint': 19n,
  'a fraction': 1.5,
  'a number that was rounded': 2 ** 53,
  NaN: Number.NaN,
  true: true,
  'an object': {},
  'an array': ['19'],
  'a cycle': cycle,
  'an object without a prototype': Object.create(null),
  'a symbol': Symbol('odd'),
  'a function': () => 'odd',
  'a date': new Date(0),
};

/**
 * Calls each function with each of {@link oddValues}. Returns the calls that failed with anything but an error of Holdfast: a TypeError, or the
 * refusal of a driver, says neither which value is wrong nor what to pass instead.
 */
export async function foreignErrors(calls: Readonly<Record<string, (odd: never) => unknown>>): Promise<readonly string[]> {
  const foreign: string[] = [];
  for (const [name, call] of Object.entries(calls))
    for (const [kind, value] of Object.entries(oddValues))
      try {
        await call(value as never);
      } catch (error) {
        if (!HoldfastError.is(error)) foreign.push(`${name} with ${kind}: ${String(error)}`);
      }
  return foreign;
}
