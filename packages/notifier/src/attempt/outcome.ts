import { cleanText, notAPromise } from '@holdfast/core';
import type { Answer } from '../egress/exchange.ts';
import type { Ack, JudgedResponse } from './ack.ts';

/**
 * The outcomes of an attempt:
 * - `started`: the request was sent or is about to be; the only outcome that is not final
 * - `delivered`: acknowledged
 * - `wrong-body`: status 2xx, but the body does not acknowledge
 * - `refused`: any other status; `redirect`: 3xx, never followed; `gone`: 410
 * - `timeout`, `network`: no complete response
 * - `blocked`: the egress guard refused the destination
 * - `no-key`: the signing key is missing or unusable
 * - `unknown`: the worker vanished; the request may have been sent
 */
export const attemptOutcomes = [
  'started',
  'delivered',
  'wrong-body',
  'refused',
  'redirect',
  'gone',
  'timeout',
  'network',
  'blocked',
  'no-key',
  'unknown',
] as const;
/** The outcome of an attempt: one of {@link attemptOutcomes}. */
export type AttemptOutcome = (typeof attemptOutcomes)[number];

/** The result of an attempt. */
export interface Judgement {
  readonly outcome: AttemptOutcome;
  readonly status: number | undefined;
  readonly errorCode: string | undefined;
  /** The start of the response body, or a description of the failure; at most 2 KiB. */
  readonly snippet: string | undefined;
  readonly remoteAddress: string | undefined;
  readonly durationMs: number;
  /** The delay that `Retry-After` asks for, in ms. */
  readonly retryAfterMs: number | undefined;
}

const judgedBytes = 1_024;
const snippetBytes = 2_048;
const maxRetryAfterMs = 3_600_000;

/** Judges the answer to a request. A date in `Retry-After` is compared with `now`, in ms since 1970. */
export function judge(answer: Answer, ack: Ack, now: number): Judgement {
  const { durationMs, remoteAddress } = answer;
  if (answer.kind === 'failure') {
    const outcome = answer.code === 'egress-denied' ? 'blocked' : isTimeout(answer.code) ? 'timeout' : 'network';
    return {
      outcome,
      status: undefined,
      errorCode: answer.code.slice(0, 60),
      snippet: cut(answer.message),
      remoteAddress,
      durationMs,
      retryAfterMs: undefined,
    };
  }
  const { status, headers, body } = answer;
  const text = body.toString('utf8');
  const base = {
    status,
    errorCode: undefined,
    snippet: cut(text),
    remoteAddress,
    durationMs,
    retryAfterMs: status === 429 || status === 503 ? retryAfterMs(headers['retry-after'], now) : undefined,
  };
  if (status === 410) return { ...base, outcome: 'gone' };
  if (status >= 300 && status < 400) return { ...base, outcome: 'redirect', errorCode: 'redirect' };
  const encoding = headers['content-encoding'];
  const verdict = callAck(ack, { status, headers, body: body.subarray(0, judgedBytes).toString('utf8') });
  if (verdict === true) return { ...base, outcome: 'delivered' };
  const detail = typeof verdict === 'object' ? verdict.detail : undefined;
  if (status >= 200 && status < 300) {
    const encoded = encoding !== undefined && encoding !== 'identity' ? `the body is ${encoding}, which was not asked for` : undefined;
    return {
      ...base,
      outcome: 'wrong-body',
      errorCode: 'wrong-body',
      snippet: cut(`[${encoded ?? detail ?? 'not acknowledged'}] ${text}`),
    };
  }
  return { ...base, outcome: 'refused', errorCode: `http-${status}` };
}

/** Calls the service's `ack`. If it throws, the response does not acknowledge. */
function callAck(ack: Ack, response: JudgedResponse): ReturnType<Ack> {
  try {
    return notAPromise('ack', ack(response), 'decide by the response alone');
  } catch (error) {
    return { ok: false, detail: `ack threw: ${(error as Error)?.message ?? error}` };
  }
}

/** Returns whether a result counts as a failure for the breaker: one that suggests that the receiver as a whole is down. */
export function tripsBreaker({ outcome, status }: Judgement): boolean {
  return outcome === 'timeout' || outcome === 'network' || (status !== undefined && (status >= 500 || status === 429));
}

/** Returns whether a result says that the receiver does not take notifications; not if the fault is ours (a key), or nobody knows. */
export function saysReceiverFails({ outcome }: Judgement): boolean {
  return outcome !== 'delivered' && outcome !== 'no-key' && outcome !== 'unknown';
}

/** Parses `Retry-After`: seconds or a date, RFC 9110 section 10.2.3. Capped at one hour. */
function retryAfterMs(value: string | undefined, now: number): number | undefined {
  if (value === undefined) return undefined;
  const ms = /^\d{1,9}$/.test(value) ? Number(value) * 1_000 : Math.ceil(Date.parse(value) - now);
  return Number.isFinite(ms) && ms > 0 ? Math.min(ms, maxRetryAfterMs) : undefined;
}

function isTimeout(code: string): boolean {
  return code === 'timeout' || /TIMEOUT|ETIMEDOUT|ETIMEOUT/.test(code);
}

/** Cuts a text to 2 KiB of UTF-8 that every database accepts. */
function cut(text: string): string {
  const clean = cleanText(text);
  return Buffer.byteLength(clean) <= snippetBytes
    ? clean
    : cleanText(
        Buffer.from(clean)
          .subarray(0, snippetBytes)
          .toString('utf8')
          .replace(/\uFFFD+$/, ''),
      );
}
