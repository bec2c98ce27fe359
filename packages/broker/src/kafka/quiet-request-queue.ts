import { createRequire } from 'node:module';
import { performance } from 'node:perf_hooks';

interface RequestQueue {
  readonly pending: readonly unknown[];
  /** Epoch ms; -1 until a broker throttles. */
  readonly throttledUntil: number;
  scheduleCheckPendingRequests(): void;
}

let done = false;

/**
 * Stops kafkajs from polling idle connections. kafkajs 2.2.4 checks its request queue again after `throttledUntil - now` ms, which is
 * negative unless a broker throttles. Node 24 warns of it (TimeoutNegativeWarning) and takes it for 1 ms, so each idle connection polls a
 * thousand times a second. Without a pending request or a throttle the check can't find anything, so it is not scheduled.
 */
export function quietRequestQueue(): void {
  if (done) return;
  done = true;
  const { prototype } = createRequire(import.meta.url)('kafkajs/src/network/requestQueue/index.js') as { prototype: RequestQueue };
  const schedule = prototype.scheduleCheckPendingRequests;
  prototype.scheduleCheckPendingRequests = function (this: RequestQueue): void {
    const now = performance.timeOrigin + performance.now();
    if (this.pending.length > 0 || this.throttledUntil > now) schedule.call(this);
  };
}
