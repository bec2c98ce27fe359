import { type Judgement, tripsBreaker } from '../attempt/outcome.ts';

export interface BreakerLimits {
  /** Number of consecutive failures that opens the breaker. */
  readonly failures: number;
  /** Duration of the first opening, in ms. It doubles with each failed probe. */
  readonly openMs: number;
  /** Longest duration of an opening, in ms. */
  readonly maxOpenMs: number;
}

/**
 * ```
 * closed --10 transport errors, 5xx or 429 in a row--> open --elapsed----> half-open: one request
 *   ^                                                   ^                   |          |
 *   |                                                   '---- fails (doubled) ---------|
 *   '------------------------------- any other response ------------------------------'
 * ```
 * Its state is stored in the endpoint's row, and only the worker that holds the row changes it. A response of 200 with the wrong body is a
 * failed attempt of one notification, not a sign that the receiver is down.
 */
export class EndpointBreaker {
  readonly #limits: BreakerLimits;
  /** Number of consecutive failures. */
  failures: number;
  /** Number of openings since the last success. */
  opened: number;

  constructor(limits: BreakerLimits, failures: number, opened: number) {
    this.#limits = limits;
    this.failures = failures;
    this.opened = opened;
  }

  /** True if only one request may be in flight: a probe, or a request to a receiver that has failed twice and may be hanging. */
  get oneAtATime(): boolean {
    return this.opened > 0 || this.failures >= 2;
  }

  /** Counts the result of an attempt. Returns how long the breaker is open from now on, in ms, or `undefined` if it is not open. */
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
