import { type ClaimedRow, isConnectionError, isTransient, type Logger, monotonicMs, wait } from '@holdfast/core';
import type { AttemptLog, End, Setback } from '../attempt/attempt-log.ts';
import type { EndpointHolder } from '../attempt/deliver.ts';
import type { Judgement } from '../attempt/outcome.ts';
import { type BreakerLimits, EndpointBreaker } from '../endpoint/endpoint-breaker.ts';
import type { DueRow } from '../table/due-row.ts';
import type { DueReader } from './due-reader.ts';
import type { FairTurns, Sender } from './fair-turns.ts';

export interface SessionOptions {
  readonly row: ClaimedRow;
  /** Aborts when the endpoint is lost, or the worker has waited long enough. */
  readonly signal: AbortSignal;
  readonly reader: DueReader;
  readonly log: AttemptLog;
  readonly turns: FairTurns<Session, DueRow>;
  readonly breaker: BreakerLimits;
  /** Requests at a time, unless the endpoint says otherwise. */
  readonly concurrency: number;
  /** Rows that may be in memory for this endpoint. */
  readonly window: number;
  /** Whether other endpoints wait for a place: then this one gives its up after a while. */
  readonly crowded: () => boolean;
  /** What a start that nobody ended comes to. */
  readonly orphaned: (row: DueRow) => End;
  readonly logger: Logger;
}

/** How a session ended. */
export interface SessionEnd {
  /** Ms until the endpoint is to be served again; `undefined`: when it is woken. */
  readonly afterMs: number | undefined;
  /** Ms for which nothing may be sent to it: breaker open, or rate used up. */
  readonly holdMs: number;
  readonly failures: number;
  readonly opened: number;
}

/**
 * How long an endpoint is kept when nothing is due: the next notification then costs neither a claim nor a settle, three commits of
 * seven.
 */
const lingerMs = 300;
/** A turn, where others wait. */
const turnMs = 1_000;
/** How often what is due is read from its beginning: a notification may commit late, behind those read before. */
const rescanMs = 1_000;

/**
 * One endpoint while this worker holds it: reads what is due ahead of the slots, hands it out within the endpoint's bounds, and ends when
 * nothing is due, the breaker opened, the rate is used up, or others wait. It ends only when every attempt that it began is written
 * down: whoever has the endpoint next takes an attempt that is not for one whose worker vanished.
 */
export class Session implements Sender<DueRow>, EndpointHolder {
  readonly endpointId: string;
  keyRefs: readonly string[] = [];
  readonly signal: AbortSignal;
  readonly #options: SessionOptions;
  readonly #breaker: EndpointBreaker;
  #concurrency = 1;
  #intervalMs = 0;
  readonly #known = new Set<string>();
  #queue: DueRow[] = [];
  #cursor = { dueAt: '-1', id: '0' };
  #more = true;
  #again = false;
  #reading = false;
  #rescanAt = 0;
  #inFlight = 0;
  #nextSendAt: number;
  #turnEndsAt: number;
  #timer: NodeJS.Timeout | undefined;
  /** When an idle session ends; `undefined` while it is not idle. */
  #idleUntil: number | undefined;
  /** When the first of the failed attempts is to be made again. */
  #retryAt = Number.POSITIVE_INFINITY;
  #closing: 'stop' | 'turn' | 'held' | 'lost' | undefined;
  #holdMs = 0;
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
    this.#turnEndsAt = now + turnMs;
    this.#rescanAt = now + rescanMs;
    this.apply(payload);
    const holdMs = Number(payload.holdMs ?? 0);
    if (!this.#closing && holdMs > 0) {
      this.#closing = 'held';
      this.#holdMs = holdMs;
    }
  }

  /** Takes over what operators have set. */
  apply(settings: ClaimedRow['payload']): void {
    this.keyRefs = [settings.keyRef, settings.previousKeyRef].filter((ref) => ref !== null && ref !== undefined);
    this.#concurrency = settings.concurrency === null ? this.#options.concurrency : Number(settings.concurrency);
    this.#intervalMs = Number(settings.intervalMs ?? 0);
    if (Number(settings.paused) === 1) this.#close('stop');
  }

  run(): Promise<SessionEnd> {
    this.signal.addEventListener('abort', () => this.#close('lost'), { once: true });
    return new Promise((resolve) => {
      this.#finish = resolve;
      this.#step();
    });
  }

  /** There may be something new. Returns `false` if it is too late for this session to look. */
  look(): boolean {
    if (this.#finishing || this.#closing) return false;
    if (this.#reading) this.#again = true;
    else this.#fromStart();
    this.#step();
    return true;
  }

  /** Sends nothing more; ends when what is under way has. */
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

  /** An attempt is over; what came of it is being written. */
  judged(judgement: Judgement): void {
    // What was under way when it opened says nothing new.
    if (this.#closing === 'held') return;
    const openMs = this.#breaker.report(judgement);
    if (openMs === undefined) return;
    this.#holdMs = openMs;
    this.#close('held');
  }

  /** The slot is free; the row counts as ours until `written` resolves. */
  over(row: DueRow, written: Promise<unknown>): void {
    this.#inFlight -= 1;
    void written.finally(() => {
      this.#known.delete(row.id);
      this.#step();
    });
    this.#step();
  }

  /** Writes how an attempt ended. What can't be written in a minute is left to be found as unknown. Returns whether it counted. */
  async end(end: End): Promise<boolean> {
    const counted = await this.#written(() => this.#options.log.end(end));
    if (end.delayMs !== undefined) this.#retryAt = Math.min(this.#retryAt, monotonicMs() + end.delayMs);
    return counted;
  }

  async setBack(setback: Setback): Promise<boolean> {
    return this.#written(() => this.#options.log.setBack(setback));
  }

  async #written(write: () => Promise<boolean>): Promise<boolean> {
    const started = monotonicMs();
    for (let pauseMs = 50; ; pauseMs = Math.min(pauseMs * 2, 2_000)) {
      try {
        return await write();
      } catch (err) {
        const passing = isConnectionError(err) || isTransient(err);
        if (!passing || this.signal.aborted || monotonicMs() - started > 60_000) {
          this.#options.logger.error({ err, endpoint: this.endpointId }, 'an attempt could not be written down; it will count as unknown');
          await wait(1_000, this.signal).catch(() => undefined);
          return false;
        }
      }
      await wait(pauseMs);
    }
  }

  #close(why: 'stop' | 'held' | 'lost'): void {
    if (this.#closing !== 'lost') this.#closing = why;
    this.#step();
  }

  #maySend(): boolean {
    if (this.#closing || this.#queue.length === 0) return false;
    if (this.#inFlight >= (this.#breaker.careful ? 1 : this.#concurrency)) return false;
    return monotonicMs() >= this.#nextSendAt;
  }

  #step(): void {
    if (!this.#finish) return;
    const now = monotonicMs();
    if (!this.#closing && now >= this.#turnEndsAt && this.#options.crowded()) this.#closing = 'turn';
    // The rate is used up for longer than it pays to hold the endpoint.
    if (!this.#closing && this.#queue.length > 0 && this.#nextSendAt - now > turnMs) {
      this.#closing = 'held';
      this.#holdMs = this.#nextSendAt - now;
    }
    if (this.#closing) {
      for (const { id } of this.#queue) this.#known.delete(id);
      this.#queue = [];
    } else {
      this.#refill();
      if (this.#maySend()) this.#options.turns.offer(this);
      else if (this.#queue.length > 0 && this.#nextSendAt > now) this.#later(this.#nextSendAt - now);
    }
    const quiet = !this.#reading && this.#inFlight === 0 && this.#known.size === 0;
    if (quiet && (this.#closing || (!this.#more && !this.#linger(now)))) void this.#end();
    // Lost: what is written now is refused anyway.
    else if (this.#closing === 'lost' && this.#inFlight === 0) void this.#end();
  }

  /** Stays for a moment, and looks a last time at its end, since other processes may not be heard here. Returns whether it does. */
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
    this.#timer = setTimeout(
      () => {
        this.#timer = undefined;
        if (!this.#closing) then?.();
        this.#step();
      },
      Math.max(1, Math.ceil(ms)),
    );
  }

  #fromStart(): void {
    this.#cursor = { dueAt: '-1', id: '0' };
    this.#more = true;
    this.#rescanAt = monotonicMs() + rescanMs;
  }

  /** Reads on when half of the window is free. */
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
      // All read from a position: once more from the start, for what committed behind it. Signs of it went with this read.
      if (!this.#more && dueAt !== '-1') this.#fromStart();
    } catch (err) {
      this.#options.logger.debug({ err, endpoint: this.endpointId }, 'what is due could not be read yet');
      await wait(200, this.signal).catch(() => undefined);
    }
  }

  #admit(row: DueRow): void {
    if (this.#known.has(row.id)) return;
    this.#known.add(row.id);
    if (!row.orphan) {
      this.#queue.push(row);
      return;
    }
    void this.end(this.#options.orphaned(row)).finally(() => {
      this.#known.delete(row.id);
      this.#step();
    });
  }

  async #end(): Promise<void> {
    if (this.#finishing) return;
    this.#finishing = true;
    clearTimeout(this.#timer);
    this.#options.turns.withdraw(this);
    const finish = this.#finish;
    let afterMs: number | undefined;
    if (this.#closing === 'held') afterMs = this.#holdMs;
    else if (this.#closing === undefined) afterMs = await this.#options.reader.nextDueMs(this.endpointId).catch(() => 0);
    else afterMs = 0;
    this.#finish = undefined;
    const { failures, opened } = this.#breaker;
    finish?.({ afterMs: afterMs === undefined ? undefined : Math.max(0, afterMs), holdMs: this.#holdMs, failures, opened });
  }
}
