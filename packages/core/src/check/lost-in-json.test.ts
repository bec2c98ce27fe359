import { expect, it } from 'vitest';
import { lostInJson } from './lost-in-json.ts';

class Order {
  readonly id = '1';
  readonly note: string | undefined = undefined;
}

it('finds nothing in what JSON gives back as it was, or only leaves out', () => {
  for (const value of [
    null,
    'x',
    0,
    -1.5,
    true,
    [],
    {},
    { a: [{ b: null }], c: undefined },
    Object.create(null),
    new Order(),
    [new Order()],
  ])
    expect(lostInJson(value, 'it', 'written')).toBeUndefined();
});

it('says what is lost, and where', () => {
  const lost: readonly (readonly [unknown, RegExp])[] = [
    [new Map(), /^it is a Map, /],
    [{ at: new Date(0) }, /^it\.at is a Date, /],
    [{ rows: [1, { n: Number.NaN }] }, /^it\.rows\[1\]\.n is NaN, which JSON writes as null/],
    [[Number.POSITIVE_INFINITY], /^it\[0\] is Infinity/],
    [[undefined], /^it\[0\] is undefined/],
    // biome-ignore lint/suspicious/noSparseArray: the case
    [[1, , 2], /^it\[1\] is undefined/],
    [undefined, /^it is undefined/],
    [{ f: () => 1 }, /^it\.f is function/],
    [{ s: Symbol('x') }, /^it\.s is symbol/],
    [{ n: 1n }, /^it\.n is bigint/],
    [{ b: new Uint8Array(2) }, /^it\.b is a Uint8Array/],
    [{ b: Buffer.from('x') }, /^it\.b is a Uint8Array/],
    [{ s: new Set([1]) }, /^it\.s is a Set/],
    [{ e: new Error('x') }, /^it\.e is a Error/],
    [{ p: Promise.resolve() }, /^it\.p is a Promise/],
    [{ u: new URL('https://a.b/') }, /^it\.u is a URL/],
    [{ m: { toJSON: () => 1 } }, /^it\.m is a Object/],
  ];
  for (const [value, words] of lost) expect(lostInJson(value, 'it', 'written')).toMatch(words);
});

it('counts what comes back as something else, if it is asked to', () => {
  const lost: readonly (readonly [unknown, RegExp])[] = [
    [new Order(), /^it is a Order, /],
    [{ rows: [new Order()] }, /^it\.rows\[0\] is a Order, /],
    [{ a: undefined }, /^it\.a is undefined/],
    // biome-ignore lint/suspicious/noSparseArray: the case
    [{ a: [1, , 2] }, /^it\.a\[1\] is undefined/],
    [{ at: new Date(0) }, /^it\.at is a Date, /],
  ];
  for (const [value, words] of lost) expect(lostInJson(value, 'it', 'read')).toMatch(words);
  for (const value of [null, 'x', -1.5, true, [], {}, { a: [{ b: null }] }, Object.create(null)])
    expect(lostInJson(value, 'it', 'read')).toBeUndefined();
});
