import { HoldfastError } from '@holdfast/core';

/** The rule of the egress guard that a URL, a name or an address violates. */
export type EgressRule = 'syntax' | 'length' | 'scheme' | 'userinfo' | 'port' | 'host' | 'address';

/** The egress guard refused a destination, which received no byte. `rule` names the violated rule. */
export class EgressDeniedError extends HoldfastError {
  readonly rule: EgressRule;

  constructor(rule: EgressRule, message: string) {
    super(message, { code: 'egress-denied' });
    this.rule = rule;
  }
}

/** The `keys` function returned no key for a reference, or a stored key can't be decrypted with `sealingKeys`. */
export class UnknownKeyError extends HoldfastError {
  constructor(message: string) {
    super(message, { code: 'key-unknown' });
  }
}

/** A key does not have the form that its signature needs. */
export class InvalidKeyError extends HoldfastError {
  constructor(message: string) {
    super(message, { code: 'key-invalid' });
  }
}

/** The payload can't be signed in the chosen way. */
export class NotSignableError extends HoldfastError {
  constructor(message: string) {
    super(message, { code: 'not-signable' });
  }
}

/** A received request has no valid signature, or is too old. */
export class InvalidSignatureError extends HoldfastError {
  constructor(message: string) {
    super(message, { code: 'signature-invalid' });
  }
}
