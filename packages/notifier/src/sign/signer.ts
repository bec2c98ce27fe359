/** The data that is signed. Id and body are the same in every attempt. */
export interface Signable {
  /** Stable over all attempts of a notification. */
  readonly id: string;
  /** Time of this attempt, in seconds since 1970. */
  readonly timestamp: number;
  readonly body: Uint8Array;
}

/** A signature scheme. */
export interface Signer {
  readonly name: string;
  /** Throws InvalidKeyError if a key does not have the form that this scheme needs. */
  checkKey(key: string): void;
  /**
   * Returns the payload with its signature, if the signature is part of the body. Called once, at the trigger, since the body never changes
   * afterwards.
   * @throws NotSignableError
   */
  seal?(payload: unknown, key: string): unknown;
  /**
   * Returns the headers that carry the signature, if it is not part of the body. Called at each attempt. `keys` are the current key and the
   * previous ones.
   */
  headers?(request: Signable, keys: readonly string[]): Readonly<Record<string, string>>;
}
