import { InvalidArgumentError } from '@holdfast/core';
import { UnknownKeyError } from '../errors.ts';
import type { Signer } from './signer.ts';

/**
 * The keys of a reference: the current one first, then those that it replaced and that receivers may still know. Called at each
 * trigger, while your transaction is open, and each attempt: a cache belongs behind it if it asks a secret store.
 */
export type KeySource = (ref: string) => KeysOf | Promise<KeysOf>;
type KeysOf = string | readonly string[] | undefined;

/** The keys of `ref`. @throws UnknownKeyError */
export function keysOf(source: KeySource | undefined, ref: string): readonly string[] | Promise<readonly string[]> {
  const found = source?.(ref);
  return found instanceof Promise ? found.then((keys) => asList(keys, ref)) : asList(found, ref);
}

function asList(found: KeysOf, ref: string): readonly string[] {
  const keys = typeof found === 'string' ? [found] : (found ?? []);
  if (keys.length === 0)
    throw new UnknownKeyError(
      `There is no key ${JSON.stringify(ref)}; the function given as keys must return it, or name another in keyRef.`,
    );
  return keys;
}

/** @throws InvalidKeyError, InvalidArgumentError */
export function checkKeys(signers: readonly Signer[], keys: readonly string[]): void {
  for (const key of keys) {
    if (typeof key !== 'string') throw new InvalidArgumentError(`keys returned ${typeof key}; keys are texts, such as whsec_….`);
    for (const signer of signers) signer.checkKey(key);
  }
}
