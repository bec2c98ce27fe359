/** Why the service refuses what it was asked for. */
export type ErrorCode =
  | 'batch-filling'
  | 'batch-not-filling'
  | 'callback-url-not-allowed'
  | 'capacity-below-minimum'
  | 'count-below-minimum'
  | 'deadline-in-the-past'
  | 'not-found'
  | 'notify-sign-key-missing'
  | 'notify-url-missing'
  | 'order-number-reused'
  | 'quota-exceeded'
  | 'room-unavailable'
  | 'sign-key-not-usable'
  | 'slot-not-up'
  | 'too-many-unknown-keys'
  | 'unknown-databases'
  | 'unknown-package';

/** A refusal. Callers decide by `code`; the message is for people, and says what to do next. */
export class DispatchError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string) {
    super(message);
    this.name = 'DispatchError';
    this.code = code;
  }
}

export function notFound(what: string): DispatchError {
  return new DispatchError('not-found', `There is no ${what}.`);
}

/** Returns the value. @throws DispatchError if there is none */
export function found<T>(value: T | undefined, what: string): T {
  if (value === undefined) throw notFound(what);
  return value;
}
