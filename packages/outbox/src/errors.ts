import { HoldfastError, shownValue } from '@holdfast/core';

/** The topic is not among the `topics` given to `createOutbox`. Nothing was written. */
export class UnknownTopicError extends HoldfastError {
  constructor(topic: string, known: readonly string[]) {
    super(
      `There is no topic ${shownValue(topic)}; known are ${known.map((name) => JSON.stringify(name)).join(', ') || 'none'}. Add it to topics, or correct the name.`,
      { code: 'unknown-topic' },
    );
  }
}

/** The payload does not fit its topic's schema, is too large, or cannot be stored. Nothing was written. */
export class InvalidPayloadError extends HoldfastError {
  constructor(message: string, cause?: unknown) {
    super(message, { code: 'invalid-payload', cause });
  }
}
