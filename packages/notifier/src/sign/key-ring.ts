import { InvalidArgumentError } from '@holdfast/core';
import { UnknownKeyError } from '../errors.ts';
import type { Signer } from './signer.ts';

/**
 * Returns the keys behind a reference: the current key first, then the keys that it replaced and that receivers may still use. Called at
 * each trigger, while the caller's transaction is open, and at each attempt, so cache the keys if they come from a secret store.
 */
export type KeySource = (ref: string) => KeysOf | Promise<KeysOf>;
type KeysOf = string | readonly string[] | undefined;

/** Returns the keys behind `ref`. @throws UnknownKeyError */
export function keysOf(source: KeySource | undefined, ref: string): readonly string[] | Promise<readonly string[]> {
  const found = source?.(ref);
  return found instanceof Promise ? found.then((keys) => asList(keys, ref)) : asList(found, ref);
}

function asList(found: KeysOf, ref: string): readonly string[] {
  const keys = typeof found === 'string' ? [found] : (found ?? []);
  if (keys.length === 0)
    throw new UnknownKeyError(
      `There is no key ${JSON.stringify(ref)}; the function passed as keys must return it, or pass another keyRef.`,
    );
  return keys;
}

/** Checks that every signer can use the keys. @throws InvalidKeyError, InvalidArgumentError */
export function checkKeys(signers: readonly Signer[], keys: readonly string[]): void {
  for (const key of keys) {
    if (typeof key !== 'string') throw new InvalidArgumentError(`keys returned ${typeof key}; keys are strings, such as whsec_….`);
    for (const signer of signers) signer.checkKey(key);
  }
}
