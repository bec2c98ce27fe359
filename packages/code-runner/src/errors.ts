import { HoldfastError } from '@holdfast/core';

/** A path breaks one of the rules for files of a task. */
export class InvalidPathError extends HoldfastError {
  constructor(message: string) {
    super(message, { code: 'invalid-path' });
  }
}

/** An archive that is broken, or holds what is not taken. */
export class InvalidZipError extends HoldfastError {
  constructor(message: string) {
    super(message, { code: 'invalid-zip' });
  }
}

/** There is no such task, file or run, or none that this actor may know of. */
export class NotFoundError extends HoldfastError {
  constructor(message: string) {
    super(message, { code: 'not-found' });
  }
}

/** `authorize` said no. */
export class ForbiddenError extends HoldfastError {
  constructor(message: string) {
    super(message, { code: 'forbidden' });
  }
}

/** The file has changed since the version that was named. */
export class VersionConflictError extends HoldfastError {
  constructor(message: string) {
    super(message, { code: 'version-conflict' });
  }
}

/** Something is larger, longer or more than its limit. */
export class LimitExceededError extends HoldfastError {
  constructor(message: string) {
    super(message, { code: 'limit-exceeded' });
  }
}

/** No language of that name is registered. */
export class UnknownLanguageError extends HoldfastError {
  constructor(message: string) {
    super(message, { code: 'unknown-language' });
  }
}

/** The task has no file that could be run. */
export class NoMainFileError extends HoldfastError {
  constructor(message: string) {
    super(message, { code: 'no-main-file' });
  }
}

/** The actor has a run of this task that has not ended. `runId` names it. */
export class LiveRunError extends HoldfastError {
  readonly runId: string | undefined;

  constructor(message: string, runId?: string) {
    super(message, { code: 'live-run' });
    this.runId = runId;
  }
}

/** The run has ended; there is nothing left to stop. */
export class RunEndedError extends HoldfastError {
  constructor(message: string) {
    super(message, { code: 'run-ended' });
  }
}

/** Where files are kept can't be used: no such bucket, no permission, no answer. */
export class FileStoreError extends HoldfastError {
  constructor(message: string, options: { readonly retryable?: boolean; readonly cause?: unknown } = {}) {
    super(message, { code: 'file-store', ...options });
  }
}

/** The content ended before it was whole; nothing was stored. */
export class UploadCutError extends HoldfastError {
  constructor(message: string, cause?: unknown) {
    super(message, { code: 'upload-cut', retryable: true, cause });
  }
}

/** The sandbox or the cluster can't be used, or not in the isolation that is asked for. */
export class ExecutorUnavailableError extends HoldfastError {
  constructor(message: string, options: { readonly retryable?: boolean; readonly cause?: unknown } = {}) {
    super(message, { code: 'executor-unavailable', ...options });
  }
}
