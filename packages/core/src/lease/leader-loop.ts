import { defineLoop, type Loop } from '../loop/loop.ts';
import type { Service } from '../loop/service.ts';
import type { Logger } from '../observe/logger.ts';
import { monotonicMs } from '../time/monotonic.ts';
import type { Lease, LeaseTable } from './lease-table.ts';

/** Options of {@link leaderLoop}. */
export interface LeaderLoopOptions {
  readonly table: LeaseTable;
  /** The name of the lease. Processes with the same name share the work: one of them runs it. */
  readonly name: string;
  /** Identifies this process among them. */
  readonly owner: string;
  /** Pause between runs, in ms. */
  readonly everyMs: number;
  /** How long the lease lasts without a renewal, in ms. Default: 30,000, or three times `everyMs` if that is longer. */
  readonly leaseMs?: number;
  /** The work. Pass `lease` to `LeaseTable.fence` in a transaction that a later leader must not see overwritten. */
  readonly run: (context: { readonly signal: AbortSignal; readonly lease: Lease }) => Promise<unknown>;
  readonly logger: Logger;
}

/** Runs `run` every `everyMs` in one of the processes that share the database: the one that holds the lease. */
export function leaderLoop(options: LeaderLoopOptions): Service {
  const leaseMs = options.leaseMs ?? Math.max(30_000, options.everyMs * 3);
  let lease: Lease | undefined;
  const loop: Loop<void> = defineLoop({
    name: options.name,
    logger: options.logger,
    pauseMs: () => options.everyMs,
    runOnce: async ({ signal }) => {
      if (lease && lease.deadline > monotonicMs()) lease = await options.table.renew(lease, leaseMs).catch(() => undefined);
      else lease = undefined;
      lease ??= await options.table.acquire('leader', options.name, options.owner, leaseMs);
      if (lease) await options.run({ signal, lease });
    },
  });
  const stop = async (): Promise<void> => {
    await loop.stop();
    if (lease) await options.table.release(lease).catch(() => undefined);
    lease = undefined;
  };
  return { start: () => loop.start(), stop, [Symbol.asyncDispose]: stop };
}
