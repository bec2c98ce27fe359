import { HoldfastError, shownValue } from '@holdfast/core';

/** The type is not among the `types` given to `createCompensateBiz`. */
export class UnknownTypeError extends HoldfastError {
  constructor(type: string, known: readonly string[]) {
    super(
      `There is no biz_type ${shownValue(type)}; known are ${known.map((name) => JSON.stringify(name)).join(', ') || 'none'}. Add it to types, or correct the name.`,
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

/** The result of a handler can't be stored: it is too large, not JSON, or does not fit the type's `result`. The row is FAILED. */
export class InvalidResultError extends HoldfastError {
  constructor(message: string, cause?: unknown) {
    super(message, { code: 'invalid-result', cause });
  }
}

/** The fan-out was cancelled. It is not continued, not written to, and not redriven. Nothing was written. */
export class FanOutCancelledError extends HoldfastError {
  constructor(key: string, id: string) {
    super(
      `The fan-out ${JSON.stringify(key)} (row ${id}) was cancelled, and a cancelled fan-out is neither continued nor redriven. Start another with a new key, or redrive those of its children that are wanted.`,
      { code: 'fan-out-cancelled' },
    );
  }
}

/** The row did not end within the time that `waitFor` was given. */
export class WaitTimeoutError extends HoldfastError {
  constructor(id: string, timeoutMs: number, status: string) {
    super(
      `Row ${id} did not end within ${timeoutMs} ms; it is ${status}. Wait again with a longer timeout, or see that a worker with a handler for its type runs.`,
      { code: 'wait-timeout', retryable: true },
    );
  }
}

/** A test ran more rows than it allowed: rows submit each other, or fail, for ever. */
export class TestRunLimitError extends HoldfastError {
  constructor(most: number, type: string) {
    super(
      `More than ${most} rows ran, and a row of ${type} is next; the rows submit each other or fail without end, or maxRuns is too low.`,
      {
        code: 'test-run-limit',
      },
    );
  }
}
