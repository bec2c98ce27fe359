import { HoldfastError } from '@holdfast/core';

/** Code that needs the current shard ran outside of `topology.at` and `topology.atKey`. */
export class NoShardError extends HoldfastError {
  constructor(message: string) {
    super(message, { code: 'no-shard' });
  }
}

/** A table is missing, or its key cannot order a scan. The message says how to fix it. */
export class NotScannableError extends HoldfastError {
  constructor(message: string) {
    super(message, { code: 'not-scannable' });
  }
}

/**
 * A publisher took none of some rows, as `process` returned it. No row is blamed: they are handed over again, for at most the scan's
 * `outage`; then the unit is left to a later run, with this error.
 */
export class RowsNotTakenError extends HoldfastError {
  constructor(outcome: string, reason: string) {
    super(`Rows were not taken (${outcome}): ${reason.slice(0, 500)} A later run hands them over again.`, {
      code: 'rows-not-taken',
      retryable: true,
    });
  }
}
