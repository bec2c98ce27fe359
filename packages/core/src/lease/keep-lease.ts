import { LeaseLostError } from '../errors/errors.ts';
import { monotonicMs } from '../time/monotonic.ts';
import { startTimer, type Timer } from '../time/timer.ts';
import { idle } from '../time/wait.ts';
import type { Lease, LeaseTable } from './lease-table.ts';

/** A lease that is renewed until it is let go or lost. */
export interface KeptLease {
  /** The lease as it was last renewed. */
  readonly lease: Lease;
  /** Aborts with a `LeaseLostError` when another owner has the name, or when the deadline passes because renewals don't get through. */
  readonly lost: AbortSignal;
  /** Ends the renewals. Returns the lease as it was last renewed, or `undefined` if it was lost. */
  letGo(): Promise<Lease | undefined>;
}

/**
 * Renews a named lease every third of `leaseMs`, also while the work that it protects is under way. (`work/run/lease-keeper.ts` renews the leases
 * of rows.)
 */
export function keepLease(table: LeaseTable, lease: Lease, leaseMs: number): KeptLease {
  const ended = new AbortController();
  const lost = new AbortController();
  let held = lease;
  const lose = (): void =>
    lost.abort(
      new LeaseLostError(
        `The lease ${held.scope}/${held.name} of epoch ${held.epoch} (${held.owner}) has been lost. Stop: another process may do this work now.`,
      ),
    );
  let expiry: Timer | undefined;
  const watch = (): void => {
    expiry?.clear();
    // By itself: over a connection that is cut, the answer that the lease is lost may never arrive.
    expiry = startTimer(held.deadline - monotonicMs(), lose).unref();
  };
  watch();
  const renewing = (async () => {
    while (!ended.signal.aborted && !lost.signal.aborted) {
      await idle(leaseMs / 3, AbortSignal.any([ended.signal, lost.signal])).catch(() => undefined);
      if (ended.signal.aborted || lost.signal.aborted) return;
      try {
        held = await table.renew(held, leaseMs);
        watch();
      } catch (error) {
        if (LeaseLostError.is(error, 'lease-lost')) lose();
        // The database is out of reach: the next renewal may get through before the deadline.
      }
    }
  })();
  return {
    get lease() {
      return held;
    },
    lost: lost.signal,
    async letGo() {
      ended.abort(new Error('let go'));
      await renewing;
      expiry?.clear();
      return lost.signal.aborted || held.deadline <= monotonicMs() ? undefined : held;
    },
  };
}
