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

/**
 * A call of the service's code took too long. The signal of the unit aborted, no row is blamed, and the unit is left to a later run, which
 * hands the batch over again.
 */
export class ProcessTimeoutError extends HoldfastError {
  constructor(unit: string, what: string) {
    super(
      `In the unit ${unit}, ${what}. Pass unit.signal on to whatever waits; raise the limit if the work may take so long. A later run hands the batch over again.`,
      { code: 'process-timeout', retryable: true },
    );
  }
}
