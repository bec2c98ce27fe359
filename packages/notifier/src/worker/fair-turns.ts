import { monotonicMs } from '@holdfast/core';

/** Somebody with requests to send. */
export interface Sender<Job> {
  /** The next one, or `undefined` if there is none that may be sent now. Without `retries` only first attempts. */
  take(retries: boolean): { readonly job: Job; readonly retry: boolean } | undefined;
}

export interface FairTurnsOptions<From extends Sender<Job>, Job> {
  /** Requests on the wire at a time. */
  readonly concurrency: number;
  /** Begins one; `done` must be called once when it is over. */
  readonly begin: (from: From, job: Job, done: () => void) => void;
}

/** Time ahead for which attempts are recorded, in ms: about what one record takes. */
const aheadMs = 12;

/**
 * Shares a bounded number of requests among endpoints, in turn: whoever was served goes to the end. A quarter is kept for
 * first attempts, so that a wave of retries does not hold up what is new.
 *
 * A request is recorded before it leaves. So that the wire is not idle meanwhile, a few more are let in than may be on the wire: as many
 * as finish within 12 ms, which with slow receivers is none.
 */
export class FairTurns<From extends Sender<Job>, Job> {
  readonly #options: FairTurnsOptions<From, Job>;
  readonly #ring = new Set<From>();
  /** Who has only retries, when there is no room for any. */
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

  /** This sender has something. */
  offer(sender: From): void {
    this.#ring.add(sender);
    this.#pump();
  }

  withdraw(sender: From): void {
    this.#ring.delete(sender);
    this.#starved.delete(sender);
  }

  /** Resolves when the request may go on the wire; at once, as a rule. {@link leaveWire} must follow. */
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
    // Nothing has finished for a while: what was fast is not any more.
    if (now - this.#measuredAt > 100) this.#measure(now);
    const { concurrency, begin } = this.#options;
    const room = concurrency + Math.min(concurrency * 2, Math.trunc(this.#perMs * aheadMs));
    for (const sender of this.#ring) {
      if (this.#admitted >= room) break;
      // To the end of the line, or out of it.
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
