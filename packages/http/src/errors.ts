import { HoldfastError } from '@holdfast/core';

/** The body of a request cannot be read as its operation expects it: not JSON, another shape, or cut off. Answered with 400. */
export class MalformedBodyError extends HoldfastError {
  constructor(message: string, cause?: unknown) {
    super(message, { code: 'malformed-body', cause });
  }
}

/** The body of a request has more bytes than its operation accepts. The rest of it was not read. Answered with 413. */
export class BodyTooLargeError extends HoldfastError {
  constructor(message: string) {
    super(message, { code: 'body-too-large' });
  }
}

/** The request carries no credentials, or none that `authenticate` accepts. Answered with 401. */
export class UnauthorizedError extends HoldfastError {
  constructor(message: string) {
    super(message, { code: 'unauthorized' });
  }
}

/** No operation has this method and path. Answered with 404. */
export class NoSuchRouteError extends HoldfastError {
  constructor(message: string) {
    super(message, { code: 'not-found' });
  }
}
