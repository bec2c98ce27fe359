import { defineLoop, durationMs, InvalidArgumentError, type Loop } from '@holdfast/core';
import { Cron } from 'croner';
import type { BizTypes, Often } from '../biz-type.ts';
import type { Registry } from '../registry.ts';
import { sweepOnce } from './sweep.ts';

/**
 * Makes the loops that sweep: one for each type with a `sweep` of its own, one for all other types. The worker starts them.
 * @throws InvalidArgumentError for a sweep that is not a period or a cron expression.
 */
export function sweepLoops(registry: Registry, often: Often, adoptIdleMs: number): Loop<unknown>[] {
  const { types, logger } = registry;
  const loop = (name: string, often: Often, of: BizTypes): Loop<unknown> => {
    nextSweepMs(often);
    return defineLoop({
      name,
      logger,
      runOnce: () => sweepOnce(registry, adoptIdleMs, of),
      pauseMs: () => nextSweepMs(often),
    });
  };
  const own: Loop<unknown>[] = [];
  const others: Record<string, BizTypes[string]> = {};
  for (const [type, definition] of Object.entries(types)) {
    if (definition.sweep === undefined) others[type] = definition;
    else own.push(loop(`sweep ${type}`, definition.sweep, { [type]: definition }));
  }
  return [loop('sweep', often, others), ...own];
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
