import { defineLoop, type Loop } from '../loop/loop.ts';
import type { Service } from '../loop/service.ts';
import type { Logger } from '../observe/logger.ts';
import { type KeptLease, keepLease } from './keep-lease.ts';
import type { Lease, LeaseTable } from './lease-table.ts';

/** Options of {@link leaderLoop}. */
export interface LeaderLoopOptions {
  readonly table: LeaseTable;
  /** The name of the lease. Processes with the same name share the work: one of them runs it. */
  readonly name: string;
  /** Identifies this loop among them. Each loop needs an owner of its own: a lease passes at once to a loop with the same owner. */
  readonly owner: string;
  /** Pause between runs, in ms. */
  readonly everyMs: number;
  /**
   * How long the lease lasts without a renewal, in ms. It is renewed every third of this time, between runs and while `run` is under way,
   * however long that takes. When the process dies, another one continues after this time. Default 30,000.
   */
  readonly leaseMs?: number;
  /**
   * The work. `signal` aborts when the loop stops, and when the lease is lost: another process may then do the work, so end it. Pass `lease`
   * to `LeaseTable.fence` in a transaction that a later leader must not see overwritten.
   */
  readonly run: (context: { readonly signal: AbortSignal; readonly lease: Lease }) => Promise<unknown>;
  readonly logger: Logger;
}

/** Runs `run` every `everyMs` in one of the processes that share the database: the one that holds the lease. */
export function leaderLoop(options: LeaderLoopOptions): Service {
  const leaseMs = options.leaseMs ?? 30_000;
  let kept: KeptLease | undefined;
  const loop: Loop<void> = defineLoop({
    name: options.name,
    logger: options.logger,
    pauseMs: () => options.everyMs,
    runOnce: async ({ signal }) => {
      if (kept?.lost.aborted) {
        await kept.letGo();
        kept = undefined;
      }
      if (!kept) {
        const lease = await options.table.acquire('leader', options.name, options.owner, leaseMs);
        if (!lease) return;
        kept = keepLease(options.table, lease, leaseMs);
      }
      await options.run({ signal: AbortSignal.any([signal, kept.lost]), lease: kept.lease });
    },
  });
  const stop = async (): Promise<void> => {
    await loop.stop();
    const lease = await kept?.letGo();
    kept = undefined;
    if (lease) await options.table.release(lease).catch(() => undefined);
  };
  return { start: () => loop.start(), stop, [Symbol.asyncDispose]: stop };
}
