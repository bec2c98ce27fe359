import { defineLoop, durationMs, InvalidArgumentError, type Loop, type Pause } from '@holdfast/core';
import { Cron } from 'croner';
import type { BizTypes, Often } from '../biz-type.ts';
import type { Registry } from '../registry.ts';
import { sweepOnce } from './sweep.ts';

/**
 * Makes the loops that call `sweepOnce`: one for each type with a `sweep` of its own, one for all other types. The worker starts them.
 * @throws InvalidArgumentError for a sweep that is not a period or a cron expression.
 */
export function sweepLoops(registry: Registry, often: Often, adoptIdleMs: number): Loop<unknown>[] {
  const { types, logger } = registry;
  const loop = (name: string, often: Often, swept: BizTypes): Loop<unknown> =>
    defineLoop({
      name,
      logger,
      runOnce: ({ signal }) => sweepOnce(registry, { adoptIdleMs, types: swept, signal }),
      pauseMs: sweepPause(often),
    });
  const own: Loop<unknown>[] = [];
  const others: Record<string, BizTypes[string]> = {};
  for (const [type, definition] of Object.entries(types)) {
    if (definition.sweep === undefined) others[type] = definition;
    else own.push(loop(`sweep ${type}`, definition.sweep, { [type]: definition }));
  }
  return [loop('sweep', often, others), ...own];
}

/**
 * Makes the function that returns the pause until the next sweep. A cron expression names instants, each of which is swept at once: if the
 * system's clock is still before the instant when its pause has ended, the next pause leads to the instant after it.
 * @throws InvalidArgumentError for a sweep that is not a period or a cron expression.
 */
export function sweepPause(sweep: Often, now: () => Date = () => new Date()): () => Pause {
  if (typeof sweep !== 'object') {
    const ms = durationMs(sweep, 'sweep');
    return () => ms;
  }
  const cron = parse(sweep.cron);
  /** The instant that the last pause led to, in ms since 1970. */
  let last = 0;
  return () => {
    const nowMs = now().getTime();
    // If the last instant is a minute or more ahead, the clock was set back: count from the clock alone.
    const swept = last - nowMs < 60_000 ? last : 0;
    const next = cron.nextRun(new Date(Math.max(nowMs, swept)));
    if (!next) return 180_000;
    last = next.getTime();
    return { untilMs: last - nowMs };
  };
}

function parse(expression: string): Cron {
  try {
    return new Cron(expression);
  } catch (error) {
    throw new InvalidArgumentError(
      `sweep.cron is ${JSON.stringify(expression)}, which is not a valid cron expression: ${(error as Error).message}`,
    );
  }
}
