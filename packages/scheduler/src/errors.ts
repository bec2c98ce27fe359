import { HoldfastError, shownValue } from '@holdfast/core';

/** A processor returned a value that can't be stored as a result. The run is FAILED: another attempt would return the same. */
export class InvalidRunResultError extends HoldfastError {
  constructor(message: string, cause?: unknown) {
    super(message, { code: 'invalid-run-result', cause });
  }
}

/** An attempt took longer than its job's timeout. */
export class RunTimeoutError extends HoldfastError {
  constructor(runId: string, timeoutMs: number) {
    super(
      `The run ${runId} took longer than its timeout of ${timeoutMs} ms. Raise the job's timeout, or end the work when run.signal aborts.`,
      {
        code: 'run-timeout',
        retryable: true,
      },
    );
  }
}

/** There is no job with this key in the app. */
export class JobNotFoundError extends HoldfastError {
  constructor(app: string, key: string) {
    super(`There is no job ${shownValue(key)} in the app ${shownValue(app)}; correct the key, or save the job first.`, {
      code: 'job-not-found',
    });
  }
}
