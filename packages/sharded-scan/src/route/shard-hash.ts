import { InvalidArgumentError, shownValue } from '@holdfast/core';

/**
 * The rule that maps a key to a table.
 * - `java-spread`: the hash of Java's `HashMap` over `String.hashCode`, as the common routing starters use it. Uniform only if the number
 *   of tables is a power of two; other numbers are refused.
 * - `mod`: the remainder of a whole number, given as a number, a bigint or a decimal string.
 * - a function: returns the index of the key's table, from 0, for a number of tables.
 */
export type ShardHash = 'java-spread' | 'mod' | ((key: ShardKey, count: number) => number);

/** The value by which a row is routed. A `number` must be a safe integer. */
export type ShardKey = string | number | bigint;

/** Java's `String.hashCode`: over UTF-16 units, in 32 bits (source: the documentation of java.lang.String). */
export function javaHashCode(text: string): number {
  let hash = 0;
  for (let i = 0; i < text.length; i++) hash = (Math.imul(31, hash) + text.charCodeAt(i)) | 0;
  return hash;
}

/** The bucket that `java.util.HashMap` picks: `(count - 1) & (h ^ (h >>> 16))`. */
export function javaSpread(text: string, count: number): number {
  const hash = javaHashCode(text);
  return (count - 1) & (hash ^ (hash >>> 16));
}

/** The index of a key among `count` tables. @throws InvalidArgumentError */
export function shardIndex(hash: ShardHash, key: ShardKey, count: number): number {
  if (typeof key !== 'string' && typeof key !== 'bigint' && !(typeof key === 'number' && Number.isSafeInteger(key)))
    throw new InvalidArgumentError(
      `The key is ${String(key)} (${typeof key}); route by a string, a bigint or a whole number below 2^53. A larger number has already lost digits.`,
    );
  if (hash === 'java-spread') return javaSpread(String(key), count);
  if (hash === 'mod') {
    if (typeof key === 'string' && !/^-?\d{1,30}$/.test(key))
      throw new InvalidArgumentError(
        `The key ${JSON.stringify(key)} is not a whole number, which hash: 'mod' needs; give numbers, or a function as hash.`,
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

/** Refuses an unknown hash, and one that would leave tables unused. @throws InvalidArgumentError */
export function checkHash(hash: ShardHash, databases: number, tables: number): void {
  const count = databases * tables;
  if (hash === 'java-spread' && (count & (count - 1)) !== 0)
    throw new InvalidArgumentError(
      `${databases} databases of ${tables} tables are ${count} tables, and java-spread is uniform only for powers of two: some tables would never be used. Use a power of two, hash: 'mod', or a function.`,
    );
  if (hash !== 'java-spread' && hash !== 'mod' && typeof hash !== 'function')
    throw new InvalidArgumentError(`hash is ${shownValue(hash)}; give 'java-spread', 'mod' or a function.`);
}
