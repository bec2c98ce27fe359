import { boundedCall, InvalidArgumentError, type Logger, monotonicMs, shownValue } from '@holdfast/core';
import { UnknownKeyError } from '../errors.ts';
import type { Signer } from './signer.ts';

/**
 * Returns the keys behind a reference: the current key first, then the keys that it replaced and that receivers may still use. Called at
 * each trigger and at each attempt, so cache the keys if they come from a secret store. A promise is waited for up to `callTimeout`; then
 * `signal` aborts.
 */
export type KeySource = (ref: string, call: { readonly signal: AbortSignal }) => KeysOf | Promise<KeysOf>;
type KeysOf = string | readonly string[] | undefined;

export interface KeyRingOptions {
  readonly source: KeySource | undefined;
  readonly signers: readonly Signer[];
  /** How long a promise of the source's is waited for, in ms. */
  readonly callMs: number;
  readonly logger: Logger;
}

type Keys = readonly string[];

/** Time for which a previous key that could not be read is not asked for again, in ms. */
const leftOutMs = 30_000;

/** The keys that requests are signed with, as the service's `keys` returns them. */
export class KeyRing {
  readonly #options: KeyRingOptions;
  /** The references of previous keys that can't be used, with the time until which they are left out. */
  readonly #leftOut = new Map<string, number>();

  constructor(options: KeyRingOptions) {
    this.#options = options;
  }

  /**
   * Returns the keys behind `ref`, the current one first. Keys behind it that no signer can use are left out. Returns no promise if the
   * source returns none.
   * @throws UnknownKeyError, InvalidKeyError, InvalidArgumentError, CallTimeoutError, `signal.reason`
   */
  of(ref: string, signal?: AbortSignal): Keys | Promise<Keys> {
    const { source, callMs } = this.#options;
    const found = boundedCall((aborted) => source?.(ref, { signal: aborted }), { name: 'keys', ms: callMs, signal });
    return found instanceof Promise ? found.then((keys) => this.#usable(keys, ref)) : this.#usable(found, ref);
  }

  /** Returns the keys behind the references of an endpoint. Only the first, the current one, must be there. @throws as {@link of} */
  ofEndpoint([current = '', ...previous]: readonly string[], signal: AbortSignal): Keys | Promise<Keys> {
    const found = [this.of(current, signal), ...previous.map((ref) => this.#ofPrevious(ref, signal))];
    if (found.some((keys) => keys instanceof Promise)) return Promise.all(found).then((lists) => lists.flat());
    return (found as Keys[]).flat();
  }

  #ofPrevious(ref: string, signal: AbortSignal): Keys | Promise<Keys> {
    if ((this.#leftOut.get(ref) ?? 0) > monotonicMs()) return [];
    const leaveOut = (err: unknown): Keys => {
      if (this.#leftOut.size >= 1_000) this.#leftOut.clear();
      this.#leftOut.set(ref, monotonicMs() + leftOutMs);
      this.#options.logger.warn(
        { err, keyRef: ref },
        'the previous key of an endpoint could not be read; its requests are signed with the current key alone',
      );
      return [];
    };
    try {
      const found = this.of(ref, signal);
      return found instanceof Promise ? found.catch(leaveOut) : found;
    } catch (error) {
      return leaveOut(error);
    }
  }

  #usable(found: KeysOf, ref: string): Keys {
    const list = typeof found === 'string' ? [found] : (found ?? []);
    if (!Array.isArray(list))
      throw new InvalidArgumentError(`keys returned ${typeof found}; return a key, such as whsec_…, or a list of keys.`);
    const [current, ...previous] = list as Keys;
    if (current === undefined)
      throw new UnknownKeyError(`There is no key ${shownValue(ref)}; the function passed as keys must return it, or pass another keyRef.`);
    this.check(current);
    return [current, ...previous.filter((key) => this.#fits(key))];
  }

  #fits(key: string): boolean {
    try {
      this.check(key);
      return true;
    } catch {
      return false;
    }
  }

  /** Checks that every signer can use a key. @throws InvalidKeyError, InvalidArgumentError */
  check(key: string): void {
    if (typeof key !== 'string') throw new InvalidArgumentError(`keys returned ${typeof key}; keys are strings, such as whsec_….`);
    for (const signer of this.#options.signers) signer.checkKey(key);
  }
}
