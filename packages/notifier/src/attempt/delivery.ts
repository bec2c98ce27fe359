import type { Backoff } from '@holdfast/core';
import type { Egress } from '../egress/egress.ts';
import type { Answer } from '../egress/exchange.ts';
import type { Signer } from '../sign/signer.ts';
import type { DueRow } from '../table/due-row.ts';
import type { Ack } from './ack.ts';
import type { End } from './attempt-log.ts';
import { type Judgement, judge } from './outcome.ts';

export interface DeliveryOptions {
  readonly egress: Egress;
  readonly signers: readonly Signer[];
  readonly ack: Ack;
  readonly schedule: Backoff;
  /** The database's time, in ms since 1970. */
  readonly now: () => number;
}

/** What is posted, whoever posts it: a worker, or a probe. */
export interface Parcel {
  readonly url: string;
  readonly webhookId: string;
  readonly contentType: string;
  /** JSON of further headers. */
  readonly headers: string | null;
}

const userAgent = 'holdfast-notifier/0.1';

/** Posts, judges what comes back, and decides what follows. */
export class Delivery {
  readonly #options: DeliveryOptions;

  constructor(options: DeliveryOptions) {
    this.#options = options;
  }

  /** One signed request. `undefined`: it was given up through `signal`, and may have arrived. */
  async send(parcel: Parcel, params: string, keys: readonly string[], signal?: AbortSignal): Promise<Judgement | undefined> {
    const { egress, signers, ack, now } = this.#options;
    const body = Buffer.from(params);
    const headers: Record<string, string> = {
      'content-type': parcel.contentType,
      'user-agent': userAgent,
      accept: '*/*',
      'accept-encoding': 'identity',
    };
    if (parcel.headers !== null) Object.assign(headers, JSON.parse(parcel.headers));
    let answer: Answer;
    try {
      const signable = { id: parcel.webhookId, timestamp: Math.floor(now() / 1_000), body };
      for (const signer of signers) if (signer.headers) Object.assign(headers, signer.headers(signable, keys));
      answer = await egress.post({ url: new URL(parcel.url), headers, body, ...(signal ? { signal } : {}) });
    } catch (error) {
      // A key that was changed to one of another form.
      return noKey((error as Error).message);
    }
    if (signal?.aborted && answer.kind === 'failure') return undefined;
    return judge(answer, ack, now());
  }

  /** What an attempt that ended so makes of its notification. */
  end(row: DueRow, judgement: Judgement): End {
    const number = row.notifyTimes + 1;
    const base = { id: row.id, number, judgement, delayMs: undefined, reason: undefined };
    if (judgement.outcome === 'delivered') return { ...base, state: 'DELIVERED' };
    if (judgement.outcome === 'gone') return { ...base, state: 'GONE', reason: 'the receiver answered 410' };
    const delayMs = this.#options.schedule.delayMs(number);
    if (delayMs === undefined) return { ...base, state: 'EXHAUSTED', reason: `no acknowledgement in ${number} attempts` };
    return { ...base, state: 'PENDING', delayMs: Math.max(delayMs, judgement.retryAfterMs ?? 0) };
  }

  /** An attempt that somebody began and nobody ended: it counts, since it may have arrived. */
  orphaned(row: DueRow): End {
    return this.end(row, {
      ...nothing,
      outcome: 'unknown',
      errorCode: 'worker-lost',
      snippet: 'The worker vanished while this attempt was under way.',
    });
  }
}

/** An attempt that could not be signed. */
export function noKey(message: string): Judgement {
  return { ...nothing, outcome: 'no-key', errorCode: 'no-key', snippet: message };
}

const nothing = { status: undefined, remoteAddress: undefined, durationMs: 0, retryAfterMs: undefined };
