import { InvalidArgumentError } from '@holdfast/core';

/**
 * - `java-spread`: the hash of Java's `HashMap` over `String.hashCode`, as the common routing starters use it. Uniform for powers
 *   of two only.
 * - `mod`: whole numbers, as numbers or decimal text, by their remainder.
 * - a function: the index of a key, from 0, for a number of tables.
 */
export type ShardHash = 'java-spread' | 'mod' | ((key: ShardKey, count: number) => number);
/** What a row is routed by. */
export type ShardKey = string | number | bigint;

/** Java's `String.hashCode`: over UTF-16 units, in 32 bits. JLS, java.lang.String. */
export function javaHashCode(text: string): number {
  let hash = 0;
  for (let i = 0; i < text.length; i++) hash = (Math.imul(31, hash) + text.charCodeAt(i)) | 0;
  return hash;
}

/** `(count - 1) & (h ^ (h >>> 16))`, as `java.util.HashMap` picks a bucket. */
export function javaSpread(text: string, count: number): number {
  const hash = javaHashCode(text);
  return (count - 1) & (hash ^ (hash >>> 16));
}

/** The index of a key among `count` tables. @throws InvalidArgumentError */
export function shardIndex(hash: ShardHash, key: ShardKey, count: number): number {
  if (typeof key !== 'string' && typeof key !== 'bigint' && !(typeof key === 'number' && Number.isSafeInteger(key)))
    throw new InvalidArgumentError(
      `The key is ${String(key)} (${typeof key}); route by a text, a bigint or a whole number below 2^53. A larger one has lost digits already.`,
    );
  if (hash === 'java-spread') return javaSpread(String(key), count);
  if (hash === 'mod') {
    if (typeof key === 'string' && !/^-?\d{1,30}$/.test(key))
      throw new InvalidArgumentError(
        `The key ${JSON.stringify(key)} is no whole number, and hash is 'mod'; give numbers, or a function as hash.`,
      );
    const remainder = Number(BigInt(key) % BigInt(count));
    return remainder < 0 ? remainder + count : remainder;
  }
  const index = hash(key, count);
  if (!Number.isInteger(index) || index < 0 || index >= count)
    throw new InvalidArgumentError(
      `hash gave ${index} for the key ${JSON.stringify(String(key))}; it must give a whole number from 0 to ${count - 1}.`,
    );
  return index;
}

/** Refuses what would not spread. @throws InvalidArgumentError */
export function checkHash(hash: ShardHash, databases: number, tables: number): void {
  const count = databases * tables;
  if (hash === 'java-spread' && (count & (count - 1)) !== 0)
    throw new InvalidArgumentError(
      `${databases} databases of ${tables} tables are ${count} tables, and java-spread is uniform only for powers of two: some tables would never be used. Use a power of two, hash: 'mod', or a function.`,
    );
  if (hash !== 'java-spread' && hash !== 'mod' && typeof hash !== 'function')
    throw new InvalidArgumentError(`hash is ${JSON.stringify(hash)}; give 'java-spread', 'mod' or a function.`);
}
