import { HoldfastError } from './holdfast-error.ts';

/** The lease has expired, or another process holds the row or name by now. Stop: no further write under this lease is accepted. */
export class LeaseLostError extends HoldfastError {
  constructor(message: string, cause?: unknown) {
    super(message, { code: 'lease-lost', cause });
  }
}

/** An argument or an option is not valid. */
export class InvalidArgumentError extends HoldfastError {
  constructor(message: string, cause?: unknown) {
    super(message, { code: 'invalid-argument', cause });
  }
}

/** A function that was passed as an option did not answer in time. Its signal was aborted; what it returns later is ignored. */
export class CallTimeoutError extends HoldfastError {
  constructor(name: string, ms: number) {
    super(`${name} did not answer within ${ms} ms. Give what it waits for a limit of its own, and end it when its signal aborts.`, {
      code: 'call-timeout',
      retryable: true,
    });
  }
}

/** The clock of the process stands before the time of the last id, for longer than a call may wait. No id was made. */
export class ClockBehindError extends HoldfastError {
  constructor(workerId: number, behindMs: number, waitMs: number) {
    super(
      `The clock is ${behindMs} ms behind the last id of snowflake worker id ${workerId}; a call waits ${waitMs} ms at most. Call again when the clock has caught up; to make ids meanwhile, use createSnowflake, or restart the process, which takes another worker id.`,
      { code: 'clock-behind', retryable: true },
    );
  }
}

/** The operation needs an open transaction and did not get one. */
export class NotInTransactionError extends HoldfastError {
  constructor(message: string) {
    super(message, { code: 'not-in-transaction' });
  }
}

/** The server rolled this transaction back on its own, and its writes are undone. Run it again from its start. */
export class TransactionDoomedError extends HoldfastError {
  constructor(message: string, cause?: unknown) {
    super(message, { code: 'transaction-doomed', retryable: true, cause });
  }
}

/** A conflict with another transaction: deadlock, serialization failure, lock time-out, busy file. Run the transaction again. */
export class TransientDatabaseError extends HoldfastError {
  constructor(message: string, cause: unknown) {
    super(message, { code: 'database-transient', retryable: true, cause });
  }
}

/** The database can't be reached, or did not answer within the time allowed. */
export class DatabaseUnavailableError extends HoldfastError {
  constructor(message: string, cause?: unknown) {
    super(message, { code: 'database-unavailable', retryable: true, cause });
  }
}

/** The database or its version is not supported. */
export class UnsupportedDatabaseError extends HoldfastError {
  constructor(message: string) {
    super(message, { code: 'database-unsupported' });
  }
}

/** Tables are missing or older than this code. */
export class MigrationRequiredError extends HoldfastError {
  constructor(message: string) {
    super(message, { code: 'migration-required' });
  }
}

/** Another process holds the lock of the migrations, and has held it for longer than `lockTimeout`. Nothing was changed. */
export class MigrationLockedError extends HoldfastError {
  constructor(message: string, cause?: unknown) {
    super(message, { code: 'migration-locked', retryable: true, cause });
  }
}

/** The database was migrated by a newer version of this package than the one that runs. */
export class SchemaNewerError extends HoldfastError {
  constructor(message: string) {
    super(message, { code: 'schema-newer' });
  }
}
