/** What every error of this family carries. */
export interface HoldfastErrorOptions {
  /** Stable identifier. Decisions are made on this, never on the text. */
  readonly code: string;
  /** Whether doing the same again later may succeed. Default `false`. */
  readonly retryable?: boolean;
  readonly cause?: unknown;
}

/** The page that explains a code: what happened, why, and what to do. */
export function errorPage(code: string): string {
  return `https://holdfast.dev/errors/${code}`;
}

const marker = Symbol.for('holdfast.error');

/**
 * Base of every error thrown by a Holdfast package. The message says what happened, with which values, and what to do
 * next, and ends with the address of its page; `code` is what programs decide on.
 *
 * `HoldfastError.is(error)` also recognises errors of another installed copy of the package, where `instanceof` fails.
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

  /** True for a Holdfast error, with that `code` if one is given. */
  static is(error: unknown, code?: string): error is HoldfastError {
    if (typeof error !== 'object' || error === null || !(marker in error)) return false;
    return code === undefined || (error as { code?: unknown }).code === code;
  }
}
