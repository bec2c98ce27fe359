import { type Duration, durationMs, InvalidArgumentError, keyText, shownValue, wholeNumber } from '@holdfast/core';
import type { BreakerLimits } from '../endpoint/endpoint-breaker.ts';

/** Options of a worker: its concurrency, its lease, and the endpoints that it serves. */
export interface WorkerOptions {
  /** Maximum number of concurrent requests, over all endpoints. Default 64. */
  readonly concurrency?: number;
  /** Maximum number of concurrent requests to one endpoint, unless the endpoint has a limit of its own. Default 4. */
  readonly perEndpoint?: number;
  /**
   * Maximum number of endpoints served at the same time. If more have something to send, they take turns of about a second. Default 256.
   */
  readonly endpoints?: number;
  /**
   * Duration of the lease on an endpoint, which the worker renews while it serves the endpoint. After a crash, another worker takes over
   * the endpoint when the lease has expired. Default 30 s, at least 100 ms.
   */
  readonly lease?: Duration;
  /**
   * Time for which `stop` waits for requests in flight before it aborts them. An aborted attempt is later recorded as `unknown`. Two seconds
   * later, `stop` resolves without those endpoints whose attempts still have not ended, since their database does not answer, say: it logs
   * them at `warn`, and another worker serves them when their leases have expired. Default 15 s, which is longer than a request may take.
   */
  readonly stopTimeout?: Duration;
  /** Pools whose endpoints this worker serves. Default `['']`: endpoints that were registered without a pool. */
  readonly pools?: readonly string[];
  /**
   * The endpoints' breakers: the number of consecutive failures that opens one, how long it first stays open, and how long at most. Default
   * 10, 30 s and 10 minutes. While a breaker is open, its notifications wait and lose no attempt.
   */
  readonly breaker?: { readonly failures?: number; readonly open?: Duration; readonly maxOpen?: Duration };
  /**
   * Time for which an endpoint may acknowledge nothing, although it is attempted, before it is disabled: PAUSED, with the event
   * `endpoint:disabled` and a warning. Its pending notifications wait until `endpoints.resume`; events no longer fan out to it. `'never'`
   * disables none. Default 5 days.
   */
  readonly disableAfter?: 'never' | Duration;
  /** Interval of the compensation sweep: see {@link Notifier.compensate}. Default 3 minutes. */
  readonly sweep?: Duration;
}

/** The options of a worker with their defaults, checked; durations in ms. */
export interface WorkerSettings {
  readonly concurrency: number;
  readonly perEndpoint: number;
  readonly endpoints: number;
  readonly leaseMs: number;
  readonly stopMs: number;
  readonly pools: readonly string[];
  readonly breaker: BreakerLimits;
  /** Infinity: no endpoint is disabled. */
  readonly disableAfterMs: number;
  readonly sweepMs: number;
}

/** @throws InvalidArgumentError */
export function workerSettings(options: WorkerOptions): WorkerSettings {
  const breaker = options.breaker ?? {};
  const disableAfter = options.disableAfter ?? '5d';
  return {
    concurrency: wholeNumber('concurrency', options.concurrency ?? 64),
    perEndpoint: wholeNumber('perEndpoint', options.perEndpoint ?? 4),
    endpoints: wholeNumber('endpoints', options.endpoints ?? 256),
    leaseMs: Math.max(100, durationMs(options.lease ?? '30s', 'lease')),
    stopMs: durationMs(options.stopTimeout ?? '15s', 'stopTimeout'),
    pools: poolsOf(options.pools ?? ['']),
    breaker: {
      failures: wholeNumber('breaker.failures', breaker.failures ?? 10),
      openMs: durationMs(breaker.open ?? '30s', 'breaker.open'),
      maxOpenMs: durationMs(breaker.maxOpen ?? '10m', 'breaker.maxOpen'),
    },
    disableAfterMs: disableAfter === 'never' ? Number.POSITIVE_INFINITY : durationMs(disableAfter, 'disableAfter'),
    sweepMs: durationMs(options.sweep ?? '3m', 'sweep'),
  };
}

function poolsOf(pools: readonly string[]): readonly string[] {
  if (!Array.isArray(pools)) throw new InvalidArgumentError(`pools is ${shownValue(pools)}; give a list of the names of pools.`);
  return pools.map((pool) => (pool === '' ? pool : keyText('pools', pool, 50)));
}
