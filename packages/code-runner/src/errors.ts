import { HoldfastError } from '@holdfast/core';

/** A path breaks one of the rules for the files of a task. */
export class InvalidPathError extends HoldfastError {
  constructor(message: string) {
    super(message, { code: 'invalid-path' });
  }
}

/** An archive is broken, or contains something that is not accepted. */
export class InvalidZipError extends HoldfastError {
  constructor(message: string) {
    super(message, { code: 'invalid-zip' });
  }
}

/** The task, file or run does not exist, or the actor may not read it. */
export class NotFoundError extends HoldfastError {
  constructor(message: string) {
    super(message, { code: 'not-found' });
  }
}

/** `authorize` refused the action. */
export class ForbiddenError extends HoldfastError {
  constructor(message: string) {
    super(message, { code: 'forbidden' });
  }
}

/** The file has changed since the version in `ifVersion`. */
export class VersionConflictError extends HoldfastError {
  constructor(message: string) {
    super(message, { code: 'version-conflict' });
  }
}

/** A size, length or number is above its limit. */
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

/** The actor already has a run of this task that has not ended. `runId` is its id. */
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

/** The file store can't be used: the bucket does not exist, permission is missing, or the store does not answer. */
export class FileStoreError extends HoldfastError {
  constructor(message: string, options: { readonly retryable?: boolean; readonly cause?: unknown } = {}) {
    super(message, { code: 'file-store', ...options });
  }
}

/** The content ended early; nothing was stored. */
export class UploadCutError extends HoldfastError {
  constructor(message: string, cause?: unknown) {
    super(message, { code: 'upload-cut', retryable: true, cause });
  }
}

/** The sandbox or the cluster can't be used, or can't provide the requested isolation. */
export class ExecutorUnavailableError extends HoldfastError {
  constructor(message: string, options: { readonly retryable?: boolean; readonly cause?: unknown } = {}) {
    super(message, { code: 'executor-unavailable', ...options });
  }
}
