import { errorPage, HoldfastError } from '@holdfast/core';

/** Which HTTP status an error of ours is. */
const statuses: Readonly<Record<string, readonly [status: number, title: string]>> = {
  'invalid-argument': [422, 'Not acceptable'],
  'invalid-path': [422, 'The path is not acceptable'],
  'invalid-zip': [422, 'The archive is not acceptable'],
  'unknown-language': [422, 'Unknown language'],
  'no-main-file': [422, 'No main file'],
  'not-found': [404, 'Not found'],
  forbidden: [403, 'Forbidden'],
  'version-conflict': [409, 'Changed meanwhile'],
  'live-run': [409, 'A run has not ended'],
  'run-ended': [409, 'The run has ended'],
  'limit-exceeded': [413, 'Too large'],
  'upload-cut': [400, 'The upload broke off'],
  'malformed-body': [400, 'The body can not be read'],
  'executor-unavailable': [503, 'Programs can not be run at present'],
  'executor-pending': [503, 'Programs can not be run at present'],
  'file-store': [503, 'Files can not be stored at present'],
  'database-unavailable': [503, 'The database is away'],
};

/** `application/problem+json` (RFC 9457). `code` is what programs decide on. */
export interface ProblemBody {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly code: string;
  readonly instance: string;
  /** Of `live-run`: the run that has not ended. */
  readonly runId?: string;
}

/** An error as an answer. What is no error of ours says nothing of itself. */
export function problemOf(error: unknown, instance: string): ProblemBody {
  const code = HoldfastError.is(error) ? error.code : 'internal';
  const [status, title] = statuses[code] ?? [500, 'Something went wrong here'];
  const detail = status === 500 ? 'This service failed; its log says why. Try again later.' : withoutLink(error as HoldfastError);
  const { runId } = error as { runId?: string };
  return {
    type: errorPage(code),
    title,
    status,
    detail,
    code,
    instance,
    ...(runId === undefined ? {} : { runId }),
  };
}

export function problemResponse(error: unknown, instance: string): Response {
  const body = problemOf(error, instance);
  return new Response(JSON.stringify(body), {
    status: body.status,
    headers: { 'content-type': 'application/problem+json', ...(body.status === 503 ? { 'retry-after': '5' } : {}) },
  });
}

/** The link is the problem's type already. */
function withoutLink({ message, code }: HoldfastError): string {
  return message.replace(` See ${errorPage(code)}`, '');
}
