import { expect, it } from 'vitest';
import { InvalidArgumentError } from '../errors/errors.ts';
import { idText } from './id-text.ts';
import { keyAsText } from './key-as-text.ts';
import { keyText } from './key-text.ts';
import { wholeNumber } from './whole-number.ts';

const cycle: Record<string, unknown> = {};
cycle.self = cycle;
const odd: readonly unknown[] = [
  undefined,
  null,
  '',
  true,
  Number.NaN,
  1.5,
  2 ** 53,
  {},
  [],
  cycle,
  Object.create(null),
  { n: 7n },
  Symbol('s'),
  () => 'f',
  new Date(0),
  `a${String.fromCharCode(0)}`,
  String.fromCharCode(0xd800),
];

it('refuses odd values as a key, an id and a whole number, whatever they are', () => {
  for (const value of odd)
    for (const check of [
      () => keyText('key', value as string),
      () => keyAsText('key', value),
      () => idText('id', value),
      () => wholeNumber('n', value),
    ])
      expect(check).toThrow(InvalidArgumentError);
});

it('takes a key as text, a safe integer or a bigint, and as nothing that may have been rounded', () => {
  expect(['k', -7, 2 ** 53 - 1, 2n ** 63n].map((key) => keyAsText('bizId', key))).toEqual([
    'k',
    '-7',
    '9007199254740991',
    '9223372036854775808',
  ]);
  expect(() => keyAsText('bizId', 2 ** 53 + 2)).toThrow(
    /^bizId is 9007199254740994; give a text of 1 to 191 characters, a bigint, or a whole number from -\(2\^53 - 1\) to 2\^53 - 1\./,
  );
  expect(() => keyText('subject', 7n as never)).toThrow(/^subject is 7; give a text of 1 to 191 characters/);
});
