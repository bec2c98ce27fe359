import { checkpoint, defineLoop, durationMs, InvalidArgumentError, type Loop } from '@holdfast/core';
import { Cron } from 'croner';
import type { BizTypes, Often } from '../biz-type.ts';
import type { Registry } from '../registry.ts';
import { repairOnce, rescueOnce, sweepOnce } from './sweep.ts';

/** Periods and tasks of a worker's upkeep. */
export interface UpkeepOptions {
  readonly leaseMs: number;
  readonly adoptIdleMs: number;
  readonly sweep: Often;
  /** `true` when the worker runs serial or capped types: it then repairs turns and slots every 2 s. */
  readonly gated: boolean;
  /** Called when SCHEDULED rows have become READY. */
  readonly onPromoted: () => void;
}

/** The loops that every worker runs beside claiming rows. */
export interface Upkeep {
  /** Makes SCHEDULED rows READY when they are due. Wake it when a row has been scheduled. */
  readonly promote: Loop<number>;
  /** Takes back rows of dead workers, repairs turns and slots, and sweeps. */
  readonly others: readonly Loop<unknown>[];
}

/** Makes the loops; the worker starts them. @throws InvalidArgumentError for a sweep that is not a period or a cron expression. */
export function createUpkeep(registry: Registry, options: UpkeepOptions): Upkeep {
  const { table, types, logger, wakers } = registry;
  let nextDueMs = 0;
  const promote = defineLoop({
    name: 'promote',
    logger,
    runOnce: async () => {
      const promoted = await table.promote();
      await checkpoint('promote:after');
      if (promoted > 0) options.onPromoted();
      nextDueMs = promoted === 1000 ? 0 : ((await table.nextDueMs()) ?? 5_000);
      return promoted;
    },
    busy: (promoted) => promoted === 1000,
    pauseMs: () => Math.max(5, Math.min(nextDueMs, wakers.reliable ? 5_000 : 500)),
  });
  const rescue = defineLoop({
    name: 'rescue',
    logger,
    runOnce: () => rescueOnce(registry, options.adoptIdleMs),
    pauseMs: () => Math.min(2_000, options.leaseMs),
  });
  const gates = defineLoop({ name: 'gates', logger, runOnce: () => repairOnce(registry), pauseMs: () => 2_000 });
  const sweep = (name: string, often: Often, of: BizTypes): Loop<unknown> => {
    nextSweepMs(often);
    return defineLoop({
      name,
      logger,
      runOnce: () => sweepOnce(registry, options.adoptIdleMs, of),
      pauseMs: () => nextSweepMs(often),
    });
  };
  const own: Loop<unknown>[] = [];
  const others: Record<string, BizTypes[string]> = {};
  for (const [type, definition] of Object.entries(types)) {
    if (definition.sweep === undefined) others[type] = definition;
    else own.push(sweep(`sweep ${type}`, definition.sweep, { [type]: definition }));
  }
  return { promote, others: [rescue, ...(options.gated ? [gates] : []), sweep('sweep', options.sweep, others), ...own] };
}

function nextSweepMs(sweep: Often): number {
  if (typeof sweep !== 'object') return durationMs(sweep, 'sweep');
  try {
    return new Cron(sweep.cron).msToNext() ?? 180_000;
  } catch (error) {
    throw new InvalidArgumentError(
      `sweep.cron is ${JSON.stringify(sweep.cron)}, which is not a valid cron expression: ${(error as Error).message}`,
    );
  }
}
