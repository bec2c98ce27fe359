import { cleanText } from '@holdfast/core';
import type { Answer } from '../egress/exchange.ts';
import type { Ack, JudgedResponse } from './ack.ts';

/**
 * - `started`: sent, or about to be; the only one that is not final
 * - `delivered`: acknowledged
 * - `wrong-body`: status 2xx without the acknowledgement
 * - `refused`: any other status; `redirect`: 3xx, never followed; `gone`: 410
 * - `timeout`, `network`: no whole response
 * - `blocked`: the egress guard refused the destination
 * - `no-key`: there was nothing to sign with
 * - `unknown`: its worker vanished; whether it was sent is not known
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
/** How an attempt ended. */
export type AttemptOutcome = (typeof attemptOutcomes)[number];

/** How an attempt ended. */
export interface Judgement {
  readonly outcome: AttemptOutcome;
  readonly status: number | undefined;
  readonly errorCode: string | undefined;
  /** What came back, or what went wrong; at most 2 KiB. */
  readonly snippet: string | undefined;
  readonly remoteAddress: string | undefined;
  readonly durationMs: number;
  /** What `Retry-After` asks for, in ms. */
  readonly retryAfterMs: number | undefined;
}

const judgedBytes = 1_024;
const snippetBytes = 2_048;
const maxRetryAfterMs = 3_600_000;

/** Judges what came of a request. `now` is the time that a date in `Retry-After` is compared with, in ms since 1970. */
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
  const verdict = askAck(ack, { status, headers, body: body.subarray(0, judgedBytes).toString('utf8') });
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

/** An `ack` of the caller's that throws has acknowledged nothing. */
function askAck(ack: Ack, response: JudgedResponse): ReturnType<Ack> {
  try {
    return ack(response);
  } catch (error) {
    return { ok: false, detail: `ack threw: ${(error as Error)?.message ?? error}` };
  }
}

/** Whether the receiver as a whole looks down: what the breaker counts. */
export function tripsBreaker({ outcome, status }: Judgement): boolean {
  return outcome === 'timeout' || outcome === 'network' || (status !== undefined && (status >= 500 || status === 429));
}

/** Seconds or a date, RFC 9110 section 10.2.3; at most an hour. */
function retryAfterMs(value: string | undefined, now: number): number | undefined {
  if (value === undefined) return undefined;
  const ms = /^\d{1,9}$/.test(value) ? Number(value) * 1_000 : Math.ceil(Date.parse(value) - now);
  return Number.isFinite(ms) && ms > 0 ? Math.min(ms, maxRetryAfterMs) : undefined;
}

function isTimeout(code: string): boolean {
  return code === 'timeout' || /TIMEOUT|ETIMEDOUT|ETIMEOUT/.test(code);
}

/** At most 2 KiB of UTF-8 that every database takes. */
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
