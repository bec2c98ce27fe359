/** What is signed: the same id and bytes in every attempt. */
export interface Signable {
  /** Stable over all attempts of a notification. */
  readonly id: string;
  /** Seconds since 1970, of this attempt. */
  readonly timestamp: number;
  readonly body: Uint8Array;
}

/** One way to sign. */
export interface Signer {
  readonly name: string;
  /** Throws where a key is not of the form that this way needs. */
  checkKey(key: string): void;
  /**
   * Where the signature is a part of the body: the payload with it. Called once, at the trigger, since the body stays as it is then.
   * @throws NotSignableError
   */
  seal?(payload: unknown, key: string): unknown;
  /** Where it goes along with the body: headers, at each attempt. `keys` are the current one and those before it. */
  headers?(request: Signable, keys: readonly string[]): Readonly<Record<string, string>>;
}
