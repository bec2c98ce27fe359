import { monotonicMs, RateWindow } from '@holdfast/core';

/** A rate in this worker. Starts are first reserved, since it is known only after the claim how many rows there were. */
export class RateLimit {
  readonly #window: RateWindow;
  #reserved = 0;

  constructor(limit: number, perMs: number) {
    this.#window = new RateWindow(limit, perMs);
  }

  /** Reserves up to `wanted` starts; returns how many it reserved. */
  reserve(wanted: number): number {
    const reserved = Math.max(0, Math.min(wanted, this.#window.free(monotonicMs()) - this.#reserved));
    this.#reserved += reserved;
    return reserved;
  }

  /** Ends a reservation: `started` of the `reserved` have started, the others are given back. */
  use(reserved: number, started: number): void {
    this.#reserved -= reserved;
    this.#window.add(monotonicMs(), started);
  }
}
