import { InvalidArgumentError, shownValue } from '@holdfast/core';
import { fires } from './fires.ts';
import type { Trigger } from './trigger.ts';

/** The most fires that a preview returns. */
const mostPreviewed = 1000;

/**
 * The next fires of a trigger, after `from`: at most `count` (default 10, 1,000 at most). Fewer where the trigger ends. A fixed delay is previewed
 * as if its last run ended at `from`. Calendars are left out unless `allows` is given.
 * @throws InvalidArgumentError for a count that is not a whole number from 1 to 1,000
 */
export function preview(
  trigger: Trigger,
  {
    from,
    count = 10,
    key = '',
    allows,
  }: { readonly from: Date; readonly count?: number; readonly key?: string; readonly allows?: (day: string) => boolean },
): readonly Date[] {
  if (!Number.isInteger(count) || count < 1 || count > mostPreviewed)
    throw new InvalidArgumentError(`count is ${shownValue(count)}; give a whole number from 1 to ${mostPreviewed}.`);
  const after = from.getTime();
  if (Number.isNaN(after)) throw new InvalidArgumentError('from is not a valid Date.');
  const found: Date[] = [];
  for (const at of fires(trigger, { key, created: after, lastEnd: after, ...(allows ? { allows } : {}) }, after)) {
    found.push(new Date(at));
    if (found.length === count) break;
  }
  return found;
}
