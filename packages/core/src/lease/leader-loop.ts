import { defineLoop, type Loop } from '../loop/loop.ts';
import type { Service } from '../loop/service.ts';
import type { Logger } from '../observe/logger.ts';
import { monotonicMs } from '../time/monotonic.ts';
import type { Lease, LeaseTable } from './lease-table.ts';

/** What one process of all does, how often, and under which name. */
export interface LeaderLoopOptions {
  readonly table: LeaseTable;
  readonly name: string;
  readonly owner: string;
  /** Pause between runs, in ms. */
  readonly everyMs: number;
  /** Default 30,000 ms, and at least three times `everyMs`. */
  readonly leaseMs?: number;
  /** The work. `lease` is its fence. */
  readonly run: (context: { readonly signal: AbortSignal; readonly lease: Lease }) => Promise<unknown>;
  readonly logger: Logger;
}

/** Runs `run` every so often in only one of the processes that share the database. */
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
