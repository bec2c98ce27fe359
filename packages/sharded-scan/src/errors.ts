import { HoldfastError } from '@holdfast/core';

/** Code that needs a shard ran outside of any route. */
export class NoShardError extends HoldfastError {
  constructor(message: string) {
    super(message, { code: 'no-shard' });
  }
}

/** A table can't be walked as the scan says. */
export class NotScannableError extends HoldfastError {
  constructor(message: string) {
    super(message, { code: 'not-scannable' });
  }
}
