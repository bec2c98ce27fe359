import { timingSafeEqual } from 'node:crypto';
import type { IncomingMessage, RequestListener } from 'node:http';
import { errorPage, HoldfastError, InvalidArgumentError, storedError } from '@holdfast/core';
import { idOf, parseExactly } from './exact-json.ts';
import { codes, type Reply, reply } from './protocol.ts';

const maxBodyBytes = 1_048_576;
const stopping = 'The executor is stopping.';

/** The operations that an admin calls. One that returns a sentence was refused for that reason. */
export interface AdminOperations {
  /** True once the executor stops: it takes no job any more, and is not to be chosen for one. */
  isStopping(): boolean;
  /** Starts a job. `path` is `run`, or `trigger` from 3.5 on. */
  trigger(body: unknown, path: 'run' | 'trigger'): string | undefined;
  /** Returns true if the job runs or waits. */
  busy(jobId: string): boolean;
  kill(jobId: string): void;
  /** Lines of a run's log, from `fromLine`, which counts from 1. */
  log(logId: string, fromLine: number): Promise<unknown>;
}

/** Answers an admin's requests. Every answer has the HTTP status 200; its `code` says the outcome. */
export function serveAdmin(operations: AdminOperations, accessToken: string | undefined): RequestListener {
  return (request, response) => {
    void answer(request, operations, accessToken)
      .catch((error: unknown) => reply(codes.failed, reasonOf(error)))
      .then((body) => response.writeHead(200, { 'content-type': 'application/json;charset=UTF-8' }).end(JSON.stringify(body)));
  };
}

/** The reason of an error for an admin's operators: without the address of its page, which is for programmers. */
function reasonOf(error: unknown): string {
  const { message } = storedError(error);
  return HoldfastError.is(error) ? message.replace(` See ${errorPage(error.code)}`, '') : message;
}

async function answer(request: IncomingMessage, operations: AdminOperations, accessToken: string | undefined): Promise<Reply> {
  if (request.method !== 'POST') return reply(codes.failed, 'Only POST is supported.');
  if (!isAuthorized(request, accessToken)) return reply(codes.failed, 'The access token is wrong.');
  const body = await readJson(request);
  const path = (request.url ?? '/').split('?')[0]?.replace(/^\/+|\/+$/g, '');
  switch (path) {
    case 'beat':
      return operations.isStopping() ? reply(codes.failed, stopping) : reply(codes.ok);
    case 'idleBeat':
      if (operations.isStopping()) return reply(codes.failed, stopping);
      return operations.busy(idOf(body, 'jobId')) ? reply(codes.failed, 'The job runs or waits.') : reply(codes.ok);
    case 'run':
    case 'trigger': {
      if (operations.isStopping()) return reply(codes.failed, stopping);
      const refusal = operations.trigger(body, path);
      return refusal === undefined ? reply(codes.ok) : reply(codes.failed, refusal);
    }
    case 'kill':
      operations.kill(idOf(body, 'jobId'));
      return reply(codes.ok);
    case 'log':
      return reply(codes.ok, null, await operations.log(idOf(body, 'logId'), lineOf(body)));
    default:
      return reply(codes.failed, `There is nothing at /${path}.`);
  }
}

function isAuthorized(request: IncomingMessage, accessToken: string | undefined): boolean {
  if (accessToken === undefined || accessToken === '') return true;
  const given = Buffer.from(String(request.headers['xxl-job-access-token'] ?? ''));
  const expected = Buffer.from(accessToken);
  return given.length === expected.length && timingSafeEqual(given, expected);
}

/** The line from which a log is read; the first unless the body has a number. */
function lineOf(body: unknown): number {
  const line = Number((body as Record<string, unknown>).fromLineNum ?? 1);
  return Number.isSafeInteger(line) ? Math.max(1, line) : 1;
}

async function readJson(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request) {
    size += (chunk as Buffer).length;
    if (size > maxBodyBytes) throw new InvalidArgumentError('The body is larger than 1 MiB.');
    chunks.push(chunk as Buffer);
  }
  const text = Buffer.concat(chunks).toString('utf8');
  try {
    return text === '' ? null : parseExactly(text);
  } catch {
    throw new InvalidArgumentError('The body is not valid JSON.');
  }
}
