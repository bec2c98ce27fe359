import { type Judgement, tripsBreaker } from '../attempt/outcome.ts';

export interface BreakerLimits {
  /** Failures in a row that open it. */
  readonly failures: number;
  /** First time open, in ms; doubles with each probe that fails. */
  readonly openMs: number;
  /** Longest time open, in ms. */
  readonly maxOpenMs: number;
}

/**
 * ```
 * closed --10 transport errors, 5xx or 429 in a row--> open --time over--> half-open: one request
 *   ^                                                   ^                   |          |
 *   |                                                   '---- fails (doubled) ---------|
 *   '------------------------------- any other response ------------------------------'
 * ```
 * Stands in the endpoint's row, and only its holder changes it: nothing to share, nothing to leak. A 200 with the wrong body is a
 * failed attempt of one notification, not a receiver that is down.
 */
export class EndpointBreaker {
  readonly #limits: BreakerLimits;
  /** Failures in a row. */
  failures: number;
  /** How often it opened without a success since. */
  opened: number;

  constructor(limits: BreakerLimits, failures: number, opened: number) {
    this.#limits = limits;
    this.failures = failures;
    this.opened = opened;
  }

  /** Whether only a single request may be under way: a probe, or a receiver that has failed twice and may be hanging. */
  get careful(): boolean {
    return this.opened > 0 || this.failures >= 2;
  }

  /** Takes in how an attempt ended. Returns for how long it is open from now on, or `undefined` if it is not. */
  report(judgement: Judgement): number | undefined {
    if (judgement.status === undefined && !tripsBreaker(judgement)) return undefined;
    if (!tripsBreaker(judgement)) {
      this.failures = 0;
      this.opened = 0;
      return undefined;
    }
    this.failures += 1;
    if (this.opened === 0 && this.failures < this.#limits.failures) return undefined;
    const ms = Math.min(this.#limits.maxOpenMs, this.#limits.openMs * 2 ** Math.min(this.opened, 20));
    this.opened += 1;
    return ms;
  }
}
