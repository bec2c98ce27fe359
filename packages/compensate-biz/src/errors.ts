import { HoldfastError } from '@holdfast/core';

/** The type is not among the `types` given to `createCompensateBiz`. */
export class UnknownTypeError extends HoldfastError {
  constructor(type: string, known: readonly string[]) {
    super(
      `There is no biz_type ${JSON.stringify(type)}; known are ${known.map((name) => JSON.stringify(name)).join(', ') || 'none'}. Add it to types, or correct the name.`,
      { code: 'unknown-type' },
    );
  }
}

/** The context does not fit its type's schema or the size limit, or is not JSON. Nothing was written. */
export class InvalidContextError extends HoldfastError {
  constructor(message: string, cause?: unknown) {
    super(message, { code: 'invalid-context', cause });
  }
}

/** The handler ran longer than the type's `timeout`. */
export class HandlerTimeoutError extends HoldfastError {
  constructor(type: string, id: string, timeoutMs: number) {
    super(`The handler of ${type} did not finish row ${id} within ${timeoutMs} ms; raise the type's timeout, or make the step smaller.`, {
      code: 'handler-timeout',
      retryable: true,
    });
  }
}
