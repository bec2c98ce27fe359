import { HoldfastError, isConnectionError } from '@holdfast/core';
import { type ProblemDocument, Problems, problemMediaType } from '@holdfast/http';
import { hasZodFastifySchemaValidationErrors } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { DispatchError, type ErrorCode } from '../errors.ts';

/** The reasons to refuse a request before the service's own rules apply. */
export type RequestErrorCode = 'foreign-origin' | 'invalid-request' | 'tenant-missing' | 'unauthorized';

/** A request that is refused for its form, its origin or its credentials. */
export class RequestError extends Error {
  readonly code: RequestErrorCode;
  /** Replaces the status of `code`. */
  readonly status: number | undefined;

  constructor(code: RequestErrorCode, message: string, status?: number) {
    super(message);
    this.name = 'RequestError';
    this.code = code;
    this.status = status;
  }
}

const statuses: Readonly<
  Record<ErrorCode | RequestErrorCode | 'internal' | 'unavailable', readonly [status: number, title: string, detail?: string]>
> = {
  'invalid-request': [422, 'The request is not valid'],
  unauthorized: [401, 'No valid API key'],
  'foreign-origin': [403, 'Request of another site'],
  'tenant-missing': [422, 'No tenant named'],
  'too-many-unknown-keys': [429, 'Too many unknown keys'],
  'not-found': [404, 'Not found'],
  'unknown-package': [422, 'Unknown package'],
  'count-below-minimum': [422, 'Count below minimum'],
  'notify-url-missing': [422, 'notifyUrl missing'],
  'notify-sign-key-missing': [422, 'notifySignKey missing'],
  'callback-url-not-allowed': [422, 'Callback address not allowed'],
  'sign-key-not-usable': [422, 'Signing key not usable'],
  'deadline-in-the-past': [422, 'Deadline in the past'],
  'order-number-reused': [422, 'Order number used for another request'],
  'quota-exceeded': [409, 'Quota exceeded'],
  'capacity-below-minimum': [409, 'Not enough free machines'],
  'batch-filling': [409, 'Batch is being filled'],
  'batch-not-filling': [409, 'Batch not filling any more'],
  'slot-not-up': [409, 'Slot has no machine that can be switched'],
  'unknown-databases': [422, 'No such databases'],
  'room-unavailable': [503, 'The room does not answer'],
  unavailable: [
    503,
    'Try again',
    'The database does not answer at the moment. Whether the request was carried out is not known: send it again.',
  ],
  internal: [500, 'Something went wrong', 'The request was not carried out; the log says why.'],
};

const problems = new Problems({ statuses, codeOf, page: (code) => `https://holdfast.dev/problems/${code}`, retryAfterSeconds: 1 });

/** The body of every refusal (RFC 9457). */
export const problemView = z.object({
  type: z.string(),
  title: z.string(),
  status: z.number(),
  detail: z.string(),
  code: z.string(),
  instance: z.string(),
});

const problemResponse = { description: 'A problem', content: { [problemMediaType]: { schema: problemView } } };

/** The refusals of a route, for its document. */
export const refusals = { '4xx': problemResponse, 503: problemResponse };

/** The problem document and headers with which an error is answered. */
export function problemOf(
  error: unknown,
  instance: string,
): { readonly document: ProblemDocument; readonly headers: Record<string, string> } {
  const refused = requestErrorOf(error) ?? error;
  const document = problems.of(refused, instance);
  const status = (refused instanceof RequestError ? refused.status : undefined) ?? document.status;
  return { document: { ...document, status }, headers: { ...problems.headers(status) } };
}

/** The error as a `RequestError`, if Fastify, a route's schema or the limit of a body refused the request. */
function requestErrorOf(error: unknown): RequestError | undefined {
  if (hasZodFastifySchemaValidationErrors(error)) {
    const place = (path: string): string => path.replace(/^\//, '').replaceAll('/', '.') || (error.validationContext ?? 'body');
    return new RequestError(
      'invalid-request',
      error.validation.map(({ instancePath, message }) => `${place(instancePath)}: ${message}`).join('; '),
    );
  }
  if (HoldfastError.is(error, 'body-too-large')) return new RequestError('invalid-request', 'Request body is too large', 413);
  if (HoldfastError.is(error, 'malformed-body')) return new RequestError('invalid-request', 'The body was cut off.', 400);
  const { statusCode, message } = error as { readonly statusCode?: number; readonly message: string };
  return statusCode !== undefined && statusCode < 500 ? new RequestError('invalid-request', message, statusCode) : undefined;
}

function codeOf(error: unknown): string {
  if (error instanceof DispatchError || error instanceof RequestError) return error.code;
  return (HoldfastError.is(error) && error.retryable) || isOutage(error) ? 'unavailable' : 'internal';
}

/** A connection that was lost or could not be had. */
function isOutage(error: unknown): boolean {
  return isConnectionError(error) || (error as { name?: string } | undefined)?.name === 'KnexTimeoutError';
}
