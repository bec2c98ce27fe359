import { type Backoff, type ClaimedRow, type Logger, monotonicMs, startTimer, steps, type Timer } from '@holdfast/core';
import type { AttemptEnd, AttemptLog, EndWritten, SkippedAttempt } from '../attempt/attempt-log.ts';
import type { EndpointHolder } from '../attempt/deliver.ts';
import { type Judgement, saysReceiverFails } from '../attempt/outcome.ts';
import { type BreakerLimits, EndpointBreaker } from '../endpoint/endpoint-breaker.ts';
import type { EndpointState } from '../endpoint/endpoint-table.ts';
import type { DueRow } from '../table/due-row.ts';
import type { DueReader } from './due-reader.ts';
import { DueWindow } from './due-window.ts';
import { EndWriter } from './end-writer.ts';
import type { FairTurns, Sender } from './fair-turns.ts';

export interface SessionOptions {
  readonly row: ClaimedRow;
  /** Duration of the lease, in ms. */
  readonly leaseMs: number;
  /** Aborts when the lease of the endpoint is lost, or when the worker's `stopTimeout` has passed. */
  readonly signal: AbortSignal;
  readonly reader: DueReader;
  readonly log: AttemptLog;
  readonly turns: FairTurns<Session, DueRow>;
  readonly breaker: BreakerLimits;
  /** Time for which no attempt may be acknowledged before the endpoint is disabled, in ms. */
  readonly disableAfterMs: number;
  /** Maximum number of concurrent requests, unless the endpoint has a limit of its own. */
  readonly concurrency: number;
  /** Maximum number of the endpoint's rows in memory. */
  readonly window: number;
  /** Returns whether the worker serves as many endpoints as it may. If so, this endpoint is given back after a while. */
  readonly crowded: () => boolean;
  /** Returns the end of an attempt that a vanished worker had started. */
  readonly orphaned: (row: DueRow, schedule: Backoff | undefined) => AttemptEnd;
  readonly logger: Logger;
}

/** The end of a session, and the state of the endpoint. */
export interface SessionEnd extends EndpointState {
  /** Ms until the endpoint is to be served again; `undefined` if only a wake-up makes it ready. */
  readonly afterMs: number | undefined;
  /** Ms for which the breaker was opened in this session; `undefined` if it was not. */
  readonly openMs: number | undefined;
}

/**
 * Time for which an idle endpoint is kept, in ms. A notification that arrives meanwhile costs neither a claim nor a settle, which are
 * three commits of seven.
 */
const lingerMs = 300;
/** Time for which an endpoint is kept while others may be waiting, and the longest wait for its rate limit, in ms. */
const yieldMs = 1_000;

/**
 * One endpoint while this worker holds it. A session reads due notifications ahead of their turns, hands them out within the endpoint's
 * limits, and ends when nothing is due, the breaker opened, the rate is used up, or other endpoints wait. It ends only after the end of
 * each of its attempts is written: to the next worker, an attempt without an end is one whose worker vanished.
 */
export class Session implements Sender<DueRow>, EndpointHolder {
  readonly endpointId: string;
  keyRefs: readonly string[] = [];
  url: string | undefined;
  headers: string | undefined;
  schedule: Backoff | undefined;
  readonly signal: AbortSignal;
  readonly #options: SessionOptions;
  readonly #breaker: EndpointBreaker;
  readonly #window: DueWindow;
  readonly #writer: EndWriter;
  #concurrency = 1;
  #intervalMs = 0;
  #inFlight = 0;
  #nextSendAt: number;
  #yieldAt: number;
  #timer: Timer | undefined;
  /** Time at which an idle session ends; `undefined` while it is not idle. */
  #idleUntil: number | undefined;
  /** Time at which the first of the failed attempts is to be repeated. */
  #retryAt = Number.POSITIVE_INFINITY;
  #closing: 'stop' | 'yield' | 'held' | 'lost' | undefined;
  /** Time until which nothing may be sent to the endpoint. */
  #holdUntil = 0;
  #openMs: number | undefined;
  /** Time since which no attempt was acknowledged. */
  #failingSince: number | undefined;
  #disable = false;
  #delays: string | undefined;
  #finish: ((end: SessionEnd) => void) | undefined;
  #finishing = false;

  constructor(options: SessionOptions) {
    const { row, signal, leaseMs, reader, log, logger } = options;
    const { id: endpointId, payload } = row;
    this.#options = options;
    this.endpointId = endpointId;
    this.signal = signal;
    this.#writer = new EndWriter({ endpointId, leaseMs, signal, log, logger });
    this.#window = new DueWindow({
      endpointId,
      signal,
      reader,
      rows: options.window,
      endOrphan: (due) => this.end(options.orphaned(due, this.schedule)),
      changed: () => this.#step(),
      logger,
    });
    this.#breaker = new EndpointBreaker(options.breaker, Number(payload.failures), Number(payload.opened));
    const now = monotonicMs();
    this.#nextSendAt = now;
    this.#yieldAt = now + yieldMs;
    if (payload.failingMs !== null && payload.failingMs !== undefined) this.#failingSince = now - Number(payload.failingMs);
    this.apply(payload);
    const holdMs = Number(payload.holdMs ?? 0);
    if (holdMs <= 0) return;
    this.#holdUntil = now + holdMs;
    this.#closing ??= 'held';
  }

  /** Applies settings that operators may have changed. */
  apply(settings: ClaimedRow['payload']): void {
    this.keyRefs = [settings.keyRef, settings.previousKeyRef].filter((ref) => ref !== null && ref !== undefined);
    this.#concurrency = settings.concurrency === null ? this.#options.concurrency : Number(settings.concurrency);
    this.#intervalMs = Number(settings.intervalMs ?? 0);
    this.url = settings.url ?? undefined;
    this.headers = settings.headers ?? undefined;
    const delays = settings.delays ?? undefined;
    if (delays !== this.#delays) this.schedule = delays === undefined ? undefined : steps(...(JSON.parse(delays) as number[]));
    this.#delays = delays;
    if (Number(settings.paused) === 1) this.#close('stop');
  }

  /** Serves the endpoint until the session ends. */
  run(): Promise<SessionEnd> {
    this.signal.addEventListener('abort', () => this.#close('lost'), { once: true });
    return new Promise((resolve) => {
      this.#finish = resolve;
      this.#step();
    });
  }

  /** Reads due notifications again, since there may be new ones. Returns `false` if this session is ending and can't. */
  wake(): boolean {
    if (this.#finishing || this.#closing) return false;
    this.#window.wake();
    this.#step();
    return true;
  }

  /** Starts no further attempt. The session ends when its attempts have ended. */
  stop(): void {
    this.#close('stop');
  }

  take(retries: boolean): { readonly job: DueRow; readonly retry: boolean } | undefined {
    if (!this.#maySend()) return undefined;
    const job = this.#window.take(retries);
    if (!job) return undefined;
    this.#inFlight += 1;
    this.#idleUntil = undefined;
    this.#nextSendAt = Math.max(monotonicMs(), this.#nextSendAt) + this.#intervalMs;
    this.#window.refill();
    return { job, retry: job.notifyTimes > 0 };
  }

  /** Reports the result of an attempt to the breaker. An endpoint that asks for a pause by `Retry-After` gets it for all its notifications. */
  report(judgement: Judgement): void {
    this.#countFailing(judgement);
    // Results of requests that were in flight when the breaker opened say nothing new.
    const openMs = this.#openMs === undefined ? this.#breaker.report(judgement) : undefined;
    this.#openMs ??= openMs;
    const holdMs = Math.max(openMs ?? 0, judgement.retryAfterMs ?? 0);
    if (holdMs === 0) return;
    this.#holdUntil = Math.max(this.#holdUntil, monotonicMs() + holdMs);
    this.#close('held');
  }

  #countFailing(judgement: Judgement): void {
    if (judgement.outcome === 'delivered') this.#failingSince = undefined;
    if (!saysReceiverFails(judgement)) return;
    const now = monotonicMs();
    this.#failingSince ??= now;
    if (now - this.#failingSince < this.#options.disableAfterMs) return;
    this.#disable = true;
    this.#close('stop');
  }

  /** Ends the turn of a row. The row stays in memory until `written` resolves. */
  release(row: DueRow, written: Promise<unknown>): void {
    this.#inFlight -= 1;
    void written.finally(() => {
      this.#window.release(row.id);
      this.#step();
    });
    this.#step();
  }

  /**
   * Writes the end of an attempt. If that fails for the time of a lease, the attempt will be recorded as unknown, and this
   * resolves with `refused`.
   */
  async end(end: AttemptEnd): Promise<EndWritten> {
    const written = await this.#writer.end(end);
    const nextMs = written === 'resent' ? 0 : end.delayMs;
    if (nextMs !== undefined) this.#retryAt = Math.min(this.#retryAt, monotonicMs() + nextMs);
    return written;
  }

  /** Cancels or postpones a notification. Resolves with `false` if it was refused. */
  skip(skipped: SkippedAttempt): Promise<boolean> {
    return this.#writer.skip(skipped);
  }

  #close(why: 'stop' | 'held' | 'lost'): void {
    if (this.#closing !== 'lost') this.#closing = why;
    this.#step();
  }

  #maySend(): boolean {
    if (this.#closing || !this.#window.waiting) return false;
    if (this.#inFlight >= (this.#breaker.oneAtATime ? 1 : this.#concurrency)) return false;
    return monotonicMs() >= this.#nextSendAt;
  }

  #step(): void {
    if (!this.#finish) return;
    const now = monotonicMs();
    if (!this.#closing && now >= this.#yieldAt && this.#options.crowded()) this.#closing = 'yield';
    // The next request is so far away that holding the endpoint does not pay.
    if (!this.#closing && this.#window.waiting && this.#nextSendAt - now > yieldMs) {
      this.#closing = 'held';
      this.#holdUntil = this.#nextSendAt;
    }
    if (this.#closing) {
      this.#window.close();
    } else {
      this.#window.refill();
      if (this.#maySend()) this.#options.turns.offer(this);
      else if (this.#window.waiting && this.#nextSendAt > now) this.#later(this.#nextSendAt - now);
    }
    const quiet = this.#inFlight === 0 && this.#window.quiet;
    if (quiet && (this.#closing || (this.#window.drained && !this.#linger(now)))) void this.#end();
    // The endpoint is lost: writes that are still under way will be refused.
    else if (this.#closing === 'lost' && this.#inFlight === 0) void this.#end();
  }

  /**
   * Keeps an idle endpoint for a moment, and reads a last time at its end, since wake-ups of other processes may get lost. Returns `false`
   * when that time has passed.
   */
  #linger(now: number): boolean {
    if (this.#options.crowded()) return false;
    if (this.#idleUntil === undefined) this.#idleUntil = now + lingerMs;
    else if (now >= this.#idleUntil) return false;
    this.#later(Math.min(this.#idleUntil, this.#retryAt) - now, () => {
      if (monotonicMs() >= this.#retryAt) this.#retryAt = Number.POSITIVE_INFINITY;
      this.#window.rewind();
    });
    return true;
  }

  #later(ms: number, then?: () => void): void {
    if (this.#timer) return;
    this.#timer = startTimer(Math.max(1, Math.ceil(ms)), () => {
      this.#timer = undefined;
      if (!this.#closing) then?.();
      this.#step();
    });
  }

  async #end(): Promise<void> {
    if (this.#finishing) return;
    this.#finishing = true;
    this.#timer?.clear();
    this.#options.turns.withdraw(this);
    const finish = this.#finish;
    const nextMs = this.#closing === undefined ? await this.#options.reader.nextDueMs(this.endpointId).catch(() => 0) : 0;
    this.#finish = undefined;
    // The rate outlives the session: the next one may begin a moment later.
    const now = monotonicMs();
    const holdMs = Math.max(0, Math.max(this.#holdUntil, this.#intervalMs > 0 ? this.#nextSendAt : 0) - now);
    const failingMs = this.#failingSince === undefined ? undefined : now - this.#failingSince;
    const afterMs = holdMs > 0 || nextMs !== undefined ? Math.max(nextMs ?? 0, holdMs) : undefined;
    const { failures, opened } = this.#breaker;
    finish?.({ afterMs, holdMs, openMs: this.#openMs, failures, opened, failingMs, disable: this.#disable && failingMs !== undefined });
  }
}
