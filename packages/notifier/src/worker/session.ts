import {
  type Backoff,
  type ClaimedRow,
  isConnectionError,
  isTransient,
  type Logger,
  monotonicMs,
  startTimer,
  steps,
  type Timer,
  wait,
} from '@holdfast/core';
import type { AttemptEnd, AttemptLog, EndWritten, SkippedAttempt } from '../attempt/attempt-log.ts';
import type { EndpointHolder } from '../attempt/deliver.ts';
import { type Judgement, saysReceiverFails } from '../attempt/outcome.ts';
import { type BreakerLimits, EndpointBreaker } from '../endpoint/endpoint-breaker.ts';
import type { EndpointState } from '../endpoint/endpoint-table.ts';
import type { DueRow } from '../table/due-row.ts';
import type { DueReader } from './due-reader.ts';
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
/** Interval at which due notifications are read from the start, in ms: one may commit late, at a position before those already read. */
const rescanMs = 1_000;

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
  #concurrency = 1;
  #intervalMs = 0;
  /** Ids of the rows that are in memory or whose end is being written. */
  readonly #held = new Set<string>();
  #queue: DueRow[] = [];
  #cursor = { dueAt: '-1', id: '0' };
  /** True if there may be rows after the cursor. */
  #more = true;
  /** True if the session was woken during a read. */
  #again = false;
  #reading = false;
  #rescanAt = 0;
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
    const { row, signal } = options;
    const { payload } = row;
    this.#options = options;
    this.endpointId = row.id;
    this.signal = signal;
    this.#breaker = new EndpointBreaker(options.breaker, Number(payload.failures), Number(payload.opened));
    const now = monotonicMs();
    this.#nextSendAt = now;
    this.#yieldAt = now + yieldMs;
    this.#rescanAt = now + rescanMs;
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
    if (this.#reading) this.#again = true;
    else this.#fromStart();
    this.#step();
    return true;
  }

  /** Starts no further attempt. The session ends when its attempts have ended. */
  stop(): void {
    this.#close('stop');
  }

  take(retries: boolean): { readonly job: DueRow; readonly retry: boolean } | undefined {
    if (!this.#maySend()) return undefined;
    const at = retries ? 0 : this.#queue.findIndex(({ notifyTimes }) => notifyTimes === 0);
    const [job] = at < 0 ? [] : this.#queue.splice(at, 1);
    if (!job) return undefined;
    this.#inFlight += 1;
    this.#idleUntil = undefined;
    this.#nextSendAt = Math.max(monotonicMs(), this.#nextSendAt) + this.#intervalMs;
    this.#refill();
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
      this.#held.delete(row.id);
      this.#step();
    });
    this.#step();
  }

  /**
   * Writes the end of an attempt. If that fails for the time of a lease, the attempt will be recorded as unknown, and this
   * resolves with `refused`.
   */
  async end(end: AttemptEnd): Promise<EndWritten> {
    const written = await this.#write<EndWritten>(() => this.#options.log.end(end), 'refused');
    const nextMs = written === 'resent' ? 0 : end.delayMs;
    if (nextMs !== undefined) this.#retryAt = Math.min(this.#retryAt, monotonicMs() + nextMs);
    return written;
  }

  /** Cancels or postpones a notification. Resolves with `false` if it was refused. */
  async skip(skipped: SkippedAttempt): Promise<boolean> {
    return this.#write(() => this.#options.log.skip(skipped), false);
  }

  /** Writes with retries while the database is unavailable, for the time of a lease: then another worker may have the endpoint. */
  async #write<T>(write: () => Promise<T>, failed: T): Promise<T> {
    const started = monotonicMs();
    for (let pauseMs = 50; ; pauseMs = Math.min(pauseMs * 2, 2_000)) {
      try {
        return await write();
      } catch (err) {
        const temporary = isConnectionError(err) || isTransient(err);
        const leftMs = this.#options.leaseMs - (monotonicMs() - started);
        pauseMs = Math.min(pauseMs, leftMs);
        if (!temporary || this.signal.aborted || leftMs <= 0) {
          this.#options.logger.error(
            { err, endpoint: this.endpointId },
            'the end of an attempt could not be written; it will count as unknown',
          );
          // The row is still due: not at once again.
          await wait(1_000, this.signal).catch(() => undefined);
          return failed;
        }
      }
      await wait(pauseMs, this.signal).catch(() => undefined);
    }
  }

  #close(why: 'stop' | 'held' | 'lost'): void {
    if (this.#closing !== 'lost') this.#closing = why;
    this.#step();
  }

  #maySend(): boolean {
    if (this.#closing || this.#queue.length === 0) return false;
    if (this.#inFlight >= (this.#breaker.oneAtATime ? 1 : this.#concurrency)) return false;
    return monotonicMs() >= this.#nextSendAt;
  }

  #step(): void {
    if (!this.#finish) return;
    const now = monotonicMs();
    if (!this.#closing && now >= this.#yieldAt && this.#options.crowded()) this.#closing = 'yield';
    // The next request is so far away that holding the endpoint does not pay.
    if (!this.#closing && this.#queue.length > 0 && this.#nextSendAt - now > yieldMs) {
      this.#closing = 'held';
      this.#holdUntil = this.#nextSendAt;
    }
    if (this.#closing) {
      for (const { id } of this.#queue) this.#held.delete(id);
      this.#queue = [];
    } else {
      this.#refill();
      if (this.#maySend()) this.#options.turns.offer(this);
      else if (this.#queue.length > 0 && this.#nextSendAt > now) this.#later(this.#nextSendAt - now);
    }
    const quiet = !this.#reading && this.#inFlight === 0 && this.#held.size === 0;
    if (quiet && (this.#closing || (!this.#more && !this.#linger(now)))) void this.#end();
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
      this.#fromStart();
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

  #fromStart(): void {
    this.#cursor = { dueAt: '-1', id: '0' };
    this.#more = true;
    this.#rescanAt = monotonicMs() + rescanMs;
  }

  /** Reads more rows if half of the window is free. */
  #refill(): void {
    if (this.#closing || this.#reading) return;
    if (monotonicMs() >= this.#rescanAt) this.#fromStart();
    if (!this.#more || this.#queue.length > this.#options.window / 2) return;
    this.#reading = true;
    void this.#read().finally(() => {
      this.#reading = false;
      if (this.#again) {
        this.#again = false;
        this.#fromStart();
      }
      this.#step();
    });
  }

  async #read(): Promise<void> {
    const { dueAt, id } = this.#cursor;
    const limit = Math.max(2, this.#options.window - this.#queue.length);
    try {
      const rows = await this.#options.reader.read({ endpointId: this.endpointId, afterDueAt: dueAt, afterId: id, limit });
      const last = rows.at(-1);
      if (last) this.#cursor = { dueAt: last.dueAt, id: last.id };
      if (!this.#closing) for (const row of rows) this.#admit(row);
      this.#more = rows.length >= limit;
      // The end was reached from a position. Read once more from the start: rows may have committed before it, and this read deleted their
      // wake rows.
      if (!this.#more && dueAt !== '-1') this.#fromStart();
    } catch (err) {
      this.#options.logger.debug({ err, endpoint: this.endpointId }, 'due notifications could not be read; it is tried again');
      await wait(200, this.signal).catch(() => undefined);
    }
  }

  #admit(row: DueRow): void {
    if (this.#held.has(row.id)) return;
    this.#held.add(row.id);
    if (!row.orphan) {
      this.#queue.push(row);
      return;
    }
    void this.end(this.#options.orphaned(row, this.schedule)).finally(() => {
      this.#held.delete(row.id);
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
