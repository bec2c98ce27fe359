import { HoldfastError } from '@holdfast/core';

/** Which rule of the egress guard a URL, a name or an address broke. */
export type EgressRule = 'syntax' | 'length' | 'scheme' | 'userinfo' | 'port' | 'host' | 'address';

/** The egress guard refused a destination. No byte was sent to it. */
export class EgressDeniedError extends HoldfastError {
  readonly rule: EgressRule;

  constructor(rule: EgressRule, message: string) {
    super(message, { code: 'egress-denied' });
    this.rule = rule;
  }
}

/** `keys` knows no key by that reference. */
export class UnknownKeyError extends HoldfastError {
  constructor(message: string) {
    super(message, { code: 'key-unknown' });
  }
}

/** A key is there, but is not of the form that its signature needs. */
export class InvalidKeyError extends HoldfastError {
  constructor(message: string) {
    super(message, { code: 'key-invalid' });
  }
}

/** The payload can't be signed the way that was asked for. */
export class NotSignableError extends HoldfastError {
  constructor(message: string) {
    super(message, { code: 'not-signable' });
  }
}

/** A request that was received is not what its signature says, or too old, or not signed at all. */
export class InvalidSignatureError extends HoldfastError {
  constructor(message: string) {
    super(message, { code: 'signature-invalid' });
  }
}
