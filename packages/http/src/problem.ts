import { errorPage, HoldfastError } from '@holdfast/core';

/** The media type of a problem document. */
export const problemMediaType = 'application/problem+json';

/** A problem document (RFC 9457), with the error's `code`, by which programs decide. */
export interface ProblemDocument {
  /** The address of the page that explains `code`. */
  readonly type: string;
  readonly title: string;
  readonly status: number;
  /** Description of this case, and the next step for the caller. */
  readonly detail: string;
  readonly code: string;
  /** The path of the request. */
  readonly instance: string;
}

/**
 * The answer to errors with a code: HTTP status, title, and a detail that replaces the error's message where callers must not see the
 * message.
 */
export type ProblemStatuses = Readonly<Record<string, readonly [status: number, title: string, detail?: string]>>;

/** Rules by which errors become problem documents. */
export interface ProblemsOptions {
  /**
   * Status and title by error code, beside those of this package's own errors, which can be replaced: `malformed-body`, `body-too-large`,
   * `unauthorized`, `not-found`, `call-timeout` and `internal`. A code that is missing is answered as `internal`: 500, without the error's message.
   */
  readonly statuses: ProblemStatuses;
  /** The code of an error. Default: that of a `HoldfastError`, and `internal` for any other error. */
  readonly codeOf?: (error: unknown) => string;
  /** The problem's `type` for a code. Default: {@link errorPage}. */
  readonly page?: (code: string) => string;
  /** Further members of the document, such as the id that an error carries. Default: none. */
  readonly members?: (error: unknown) => Readonly<Record<string, unknown>>;
  /** The `retry-after` header of answers with status 429 and 503, in seconds. Default 5. */
  readonly retryAfterSeconds?: number;
}

const internal: ProblemStatuses[string] = [500, 'Something went wrong here', 'This service failed; its log says why. Try again later.'];

const ownStatuses: ProblemStatuses = {
  'malformed-body': [400, 'The body cannot be read'],
  'body-too-large': [413, 'Too large'],
  unauthorized: [401, 'Unauthorized'],
  'not-found': [404, 'Not found'],
  'call-timeout': [503, 'Not answered in time', 'Something that this service asked did not answer in time. Send the request again.'],
  internal,
};

/** Turns errors into problem documents, by one table of statuses. */
export class Problems {
  readonly #options: ProblemsOptions;
  readonly #statuses: ProblemStatuses;

  constructor(options: ProblemsOptions) {
    this.#options = options;
    this.#statuses = { ...ownStatuses, ...options.statuses };
  }

  /** The problem document of an error, for the request path `instance`. */
  of(error: unknown, instance: string): ProblemDocument {
    const { codeOf = codeOfHoldfastError, page = errorPage, members } = this.#options;
    const code = codeOf(error);
    const [status, title, detail = messageOf(error)] = this.#entry(code);
    return { type: page(code), title, status, detail, code, instance, ...members?.(error) };
  }

  /** The answer to a request that ended with an error. */
  response(error: unknown, instance: string): Response {
    const document = this.of(error, instance);
    return new Response(JSON.stringify(document), { status: document.status, headers: this.headers(document.status) });
  }

  /** The headers of a problem's answer, for frameworks that write their answers themselves. */
  headers(status: number): Readonly<Record<string, string>> {
    const retryAfter = String(this.#options.retryAfterSeconds ?? 5);
    return { 'content-type': problemMediaType, ...(status === 503 || status === 429 ? { 'retry-after': retryAfter } : {}) };
  }

  #entry(code: string): ProblemStatuses[string] {
    // Own properties only: a code such as `constructor` is in every object.
    const known = (name: string): ProblemStatuses[string] | undefined =>
      Object.hasOwn(this.#statuses, name) ? this.#statuses[name] : undefined;
    return known(code) ?? known('internal') ?? internal;
  }
}

function codeOfHoldfastError(error: unknown): string {
  return HoldfastError.is(error) ? error.code : 'internal';
}

/** Without the address of the error's page, which is the problem's `type`. */
function messageOf(error: unknown): string {
  const { message } = error as Error;
  return HoldfastError.is(error) ? message.replace(` See ${errorPage(error.code)}`, '') : message;
}
