import { type Backoff, notAPromise } from '@holdfast/core';
import type { Egress } from '../egress/egress.ts';
import type { Answer } from '../egress/exchange.ts';
import type { Signer } from '../sign/signer.ts';
import type { DueRow } from '../table/due-row.ts';
import type { Ack } from './ack.ts';
import type { AttemptEnd } from './attempt-log.ts';
import { type Judgement, judge } from './outcome.ts';

export interface DeliveryOptions {
  readonly egress: Egress;
  readonly signers: readonly Signer[];
  readonly ack: Ack;
  readonly schedule: Backoff;
  /** Returns the database's time, in ms since 1970. */
  readonly now: () => number;
}

/** A request without its body, as a worker or a probe sends it. */
export interface OutgoingRequest {
  readonly url: string;
  readonly webhookId: string;
  readonly contentType: string;
  /** Additional headers, as JSON. */
  readonly headers: string | null;
  /** Additional headers of the endpoint, as JSON. Those of the notification win. */
  readonly endpointHeaders?: string | undefined;
}

const userAgent = 'holdfast-notifier/0.1';

/** Posts notifications, judges the responses, and decides what follows. */
export class Delivery {
  readonly #options: DeliveryOptions;

  constructor(options: DeliveryOptions) {
    this.#options = options;
  }

  /** Sends one signed request. Returns `undefined` if `signal` aborted it; it may have arrived all the same. */
  async send(request: OutgoingRequest, params: string, keys: readonly string[], signal?: AbortSignal): Promise<Judgement | undefined> {
    const { egress, signers, ack, now } = this.#options;
    const body = Buffer.from(params);
    const headers: Record<string, string> = {
      'content-type': request.contentType,
      'user-agent': userAgent,
      accept: '*/*',
      'accept-encoding': 'identity',
    };
    if (request.endpointHeaders !== undefined) Object.assign(headers, JSON.parse(request.endpointHeaders));
    if (request.headers !== null) Object.assign(headers, JSON.parse(request.headers));
    let answer: Answer;
    try {
      const signable = { id: request.webhookId, timestamp: Math.floor(now() / 1_000), body };
      for (const signer of signers)
        if (signer.headers)
          Object.assign(headers, notAPromise(`The signer ${signer.name}`, signer.headers(signable, keys), 'sign without waiting'));
      answer = await egress.post({ url: new URL(request.url), headers, body, ...(signal ? { signal } : {}) });
    } catch (error) {
      // The key was replaced by one of another form.
      return noKey((error as Error).message);
    }
    if (signal?.aborted && answer.kind === 'failure') return undefined;
    return judge(answer, ack, now());
  }

  /** Decides what the result of an attempt means for its notification. @param schedule of the endpoint, in place of the notifier's */
  end(row: DueRow, judgement: Judgement, schedule: Backoff = this.#options.schedule): AttemptEnd {
    const number = row.notifyTimes + 1;
    const base = { id: row.id, number, resends: row.resends, judgement, delayMs: undefined, reason: undefined };
    if (judgement.outcome === 'delivered') return { ...base, state: 'DELIVERED' };
    if (judgement.outcome === 'gone') return { ...base, state: 'GONE', reason: 'the receiver answered 410' };
    const delayMs = nextDelayMs(schedule, number);
    if (delayMs === undefined) return { ...base, state: 'EXHAUSTED', reason: `no acknowledgement in ${number} attempts` };
    return { ...base, state: 'PENDING', delayMs: Math.max(delayMs, judgement.retryAfterMs ?? 0) };
  }

  /** Ends an attempt that a vanished worker had started. It counts, since its request may have arrived. */
  orphaned(row: DueRow, schedule?: Backoff): AttemptEnd {
    const judgement = {
      ...noResponse,
      outcome: 'unknown',
      errorCode: 'worker-lost',
      snippet: 'The worker vanished during this attempt.',
    } as const;
    const end = this.end(row, judgement, schedule);
    return row.resent ? { ...end, state: 'PENDING', delayMs: 0, reason: undefined } : end;
  }
}

/** A schedule of the service's own may throw, or return what is not a time. Its notification must be due again all the same. */
function nextDelayMs(schedule: Backoff, number: number): number | undefined {
  try {
    const ms = notAPromise('schedule', schedule.delayMs(number), 'return a number of ms');
    if (ms === undefined) return undefined;
    // A column holds whole ms.
    return ms >= 0 && ms <= Number.MAX_SAFE_INTEGER ? Math.ceil(ms) : brokenScheduleMs;
  } catch {
    return brokenScheduleMs;
  }
}

const brokenScheduleMs = 1_800_000;

/** The result of an attempt that could not be signed. */
export function noKey(message: string): Judgement {
  return { ...noResponse, outcome: 'no-key', errorCode: 'no-key', snippet: message };
}

const noResponse = { status: undefined, remoteAddress: undefined, durationMs: 0, retryAfterMs: undefined };
