import type { FireContext } from '../trigger/fires.ts';
import { fires } from '../trigger/fires.ts';
import type { Trigger } from '../trigger/trigger.ts';
import type { Instant } from '../trigger/zone.ts';

/** What becomes of fires that nobody planned in time. `skip`: none runs. `once`: the last one runs. `all`: each runs. */
export const missedPolicies = ['skip', 'once', 'all'] as const;
/** The name of a policy for missed fires: none of them runs, the last one, or all. */
export type MissedPolicy = (typeof missedPolicies)[number];

/** The moment of planning, in milliseconds of the database's clock. */
export interface PlanMoment {
  readonly now: Instant;
  /** Fires up to this instant become rows. */
  readonly until: Instant;
  /** A fire that is older than this is missed. */
  readonly graceMs: number;
}

/** The rows that a pass of planning writes for one job. */
export interface DueFires {
  /** Fires that become runs, in order. */
  readonly runs: readonly Instant[];
  /** The missed fires that do not run, as one row: the last of them, the first, and their number. */
  readonly skipped: { readonly first: Instant; readonly last: Instant; readonly count: number } | undefined;
  /** The next fire after these, or `undefined` if the trigger gives none. */
  readonly next: Instant | undefined;
}

/** Fires that one pass plans for one job at most; the next pass continues. */
const mostFires = 1_000;

/** Decides which fires of a job from `nextAt` on become runs. A pure function: every process decides alike. */
export function dueFires(trigger: Trigger, context: FireContext, nextAt: Instant, missed: MissedPolicy, moment: PlanMoment): DueFires {
  const runs: Instant[] = [];
  const late = { first: 0, last: 0, beforeLast: 0, count: 0 };
  let next: Instant | undefined;
  for (const at of from(trigger, context, nextAt)) {
    if (at > moment.until || runs.length === mostFires) {
      next = at;
      break;
    }
    if (at >= moment.now - moment.graceMs || missed === 'all') runs.push(at);
    else {
      if (late.count === 0) late.first = at;
      late.beforeLast = late.last;
      late.last = at;
      late.count += 1;
    }
  }
  if (late.count === 0) return { runs, skipped: undefined, next };
  if (missed === 'skip') return { runs, skipped: { first: late.first, last: late.last, count: late.count }, next };
  runs.unshift(late.last);
  return { runs, skipped: late.count === 1 ? undefined : { first: late.first, last: late.beforeLast, count: late.count - 1 }, next };
}

/** A fixed delay has one fire at a time: the one that is planned already. */
function from(trigger: Trigger, context: FireContext, nextAt: Instant): Iterable<Instant> {
  return trigger.kind === 'delay' ? [nextAt] : fires(trigger, context, nextAt - 1);
}
