/** The fields of a {@link HoldfastError} besides its message. */
export interface HoldfastErrorOptions {
  /** Stable identifier, such as `lease-lost`. Programs decide on it, never on the message. */
  readonly code: string;
  /** True if the same call may succeed later. Default `false`. */
  readonly retryable?: boolean;
  readonly cause?: unknown;
}

/** The address of the page that explains a code: what happened, why, and what to do. */
export function errorPage(code: string): string {
  return `https://holdfast.dev/errors/${code}`;
}

const marker = Symbol.for('holdfast.error');

/**
 * Base of every error that a Holdfast package throws. The message says what happened, with which values, and what to do next, and ends with
 * the address of its page. Programs decide on `code`.
 *
 * `HoldfastError.is(error)` also recognises errors of another installed copy of the package; `instanceof` does not.
 */
export class HoldfastError extends Error {
  readonly code: string;
  readonly retryable: boolean;

  constructor(message: string, options: HoldfastErrorOptions) {
    super(
      `${message}${/[.!?]$/.test(message) ? '' : '.'} See ${errorPage(options.code)}`,
      options.cause === undefined ? undefined : { cause: options.cause },
    );
    this.name = new.target.name;
    this.code = options.code;
    this.retryable = options.retryable ?? false;
    Object.defineProperty(this, marker, { value: true });
  }

  /** Returns whether it is a Holdfast error, with that `code` if one is given. */
  static is(error: unknown, code?: string): error is HoldfastError {
    if (typeof error !== 'object' || error === null || !(marker in error)) return false;
    return code === undefined || (error as { code?: unknown }).code === code;
  }
}
