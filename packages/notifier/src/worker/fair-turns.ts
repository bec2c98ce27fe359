import { monotonicMs } from '@holdfast/core';

/** A source of requests: an endpoint's session. */
export interface Sender<Job> {
  /** Takes the next job, or returns `undefined` if none may be sent now. Without `retries`, only a first attempt is taken. */
  take(retries: boolean): { readonly job: Job; readonly retry: boolean } | undefined;
}

export interface FairTurnsOptions<From extends Sender<Job>, Job> {
  /** Maximum number of requests on the wire. */
  readonly concurrency: number;
  /** Begins a job. `done` must be called once, when the job has ended. */
  readonly begin: (from: From, job: Job, done: () => void) => void;
}

/** Time ahead for which attempts are recorded, in ms: about as long as one record takes. */
const aheadMs = 12;

/**
 * Shares a bounded number of requests among endpoints in round-robin order. A quarter of the requests is reserved for first attempts, so
 * that a wave of retries does not delay new notifications.
 *
 * An attempt is recorded before its request is sent. To keep the wire busy meanwhile, more jobs are admitted than may be on the wire: as
 * many as finish within 12 ms, which is none with slow receivers.
 */
export class FairTurns<From extends Sender<Job>, Job> {
  readonly #options: FairTurnsOptions<From, Job>;
  readonly #ring = new Set<From>();
  /** Senders that have only retries while no retry may start. */
  readonly #starved = new Set<From>();
  readonly #wireQueue: (() => void)[] = [];
  readonly #retryCap: number;
  #admitted = 0;
  #retries = 0;
  #onWire = 0;
  #pumping = false;
  #finished = 0;
  #measuredAt = monotonicMs();
  #perMs = 0;

  constructor(options: FairTurnsOptions<From, Job>) {
    this.#options = options;
    this.#retryCap = Math.max(1, Math.floor(options.concurrency * 0.75));
  }

  /** Announces that a sender has a job. */
  offer(sender: From): void {
    this.#ring.add(sender);
    this.#pump();
  }

  /** Removes a sender that has ended. */
  withdraw(sender: From): void {
    this.#ring.delete(sender);
    this.#starved.delete(sender);
  }

  /** Returns `undefined` if a request may be sent now, else a promise of it. {@link leaveWire} must follow. */
  enterWire(): Promise<void> | undefined {
    if (this.#onWire < this.#options.concurrency) {
      this.#onWire += 1;
      return undefined;
    }
    return new Promise((resolve) => this.#wireQueue.push(resolve));
  }

  leaveWire(): void {
    this.#count();
    const next = this.#wireQueue.shift();
    if (next) next();
    else this.#onWire -= 1;
  }

  #pump(): void {
    if (this.#pumping) return;
    this.#pumping = true;
    const now = monotonicMs();
    // Nothing has finished for a while: the measured rate is outdated.
    if (now - this.#measuredAt > 100) this.#measure(now);
    const { concurrency, begin } = this.#options;
    const room = concurrency + Math.min(concurrency * 2, Math.trunc(this.#perMs * aheadMs));
    for (const sender of this.#ring) {
      if (this.#admitted >= room) break;
      // The sender goes to the end of the ring, or leaves it.
      this.#ring.delete(sender);
      const mayRetry = this.#retries < this.#retryCap;
      const taken = sender.take(mayRetry);
      if (!taken) {
        if (!mayRetry) this.#starved.add(sender);
        continue;
      }
      this.#ring.add(sender);
      const { job, retry } = taken;
      this.#admitted += 1;
      if (retry) this.#retries += 1;
      begin(sender, job, () => {
        this.#admitted -= 1;
        if (retry) {
          this.#retries -= 1;
          for (const starved of this.#starved) this.#ring.add(starved);
          this.#starved.clear();
        }
        this.#pump();
      });
    }
    this.#pumping = false;
  }

  #count(): void {
    this.#finished += 1;
    const now = monotonicMs();
    if (now - this.#measuredAt >= 20) this.#measure(now);
  }

  #measure(now: number): void {
    this.#perMs = 0.5 * this.#perMs + (0.5 * this.#finished) / (now - this.#measuredAt);
    this.#finished = 0;
    this.#measuredAt = now;
  }
}
