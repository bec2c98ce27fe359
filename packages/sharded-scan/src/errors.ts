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
