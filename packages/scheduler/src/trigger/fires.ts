import { createHash } from 'node:crypto';
import { type CronExpression, parseCron } from './cron-expression.ts';
import { cronFires } from './cron-fires.ts';
import { dailyFires } from './daily-fires.ts';
import { type Trigger, weekdays } from './trigger.ts';
import { type Instant, Zone } from './zone.ts';

/** What the fires of a job depend on besides its trigger. */
export interface FireContext {
  /** The job's own key, which its jitter follows from. */
  readonly key: string;
  /** When the job was created; fires of `every` are counted from it unless the trigger says when it starts. */
  readonly created: Instant;
  /** Whether the calendars of the trigger allow a day, such as `'2026-12-31'`, in the trigger's zone. Default: every day. */
  readonly allows?: (day: string) => boolean;
  /** The end of the last run, for a fixed delay. Default: none, so that the first run is due at once. */
  readonly lastEnd?: Instant;
}

/**
 * The fires of a trigger after an instant, in order. The sequence has no end for most triggers: take what is needed. A trigger whose fires are
 * all in the past, and one that only a call fires, gives none.
 */
export function* fires(trigger: Trigger, context: FireContext, after: Instant): Generator<Instant> {
  const shift = jitterOf(trigger, context.key);
  const starts = trigger.starts ?? Number.NEGATIVE_INFINITY;
  const ends = trigger.ends ?? Number.POSITIVE_INFINITY;
  const zone = Zone.of('zone' in trigger ? trigger.zone : 'UTC');
  for (const at of unbounded(trigger, zone, context, Math.max(after - shift, starts - 1))) {
    if (at > ends) return;
    if (context.allows && !context.allows(new Date(zone.wall(at)).toISOString().slice(0, 10))) continue;
    yield at + shift;
  }
}

function* unbounded(trigger: Trigger, zone: Zone, { created, lastEnd }: FireContext, after: Instant): Generator<Instant> {
  switch (trigger.kind) {
    case 'cron':
      yield* cronFires(parsed(trigger.expression, trigger.dialect), zone, after);
      return;
    case 'every': {
      const origin = trigger.starts ?? created;
      for (let n = Math.max(0, Math.floor((after - origin) / trigger.everyMs) + 1); ; n++) yield origin + n * trigger.everyMs;
    }
    case 'delay': {
      const due = lastEnd === undefined ? (trigger.starts ?? created) : lastEnd + trigger.delayMs;
      if (due > after) yield due;
      return;
    }
    case 'daily':
      yield* dailyFires({ ...trigger, weekdays: new Set(trigger.days.map((day) => weekdays.indexOf(day))) }, zone, after);
      return;
    case 'once':
      if (trigger.at > after) yield trigger.at;
      return;
    case 'api':
    case 'workflow':
      return;
  }
}

const maxParsed = 10_000;
const expressions = new Map<string, CronExpression>();

function parsed(expression: string, dialect: 'unix' | 'quartz'): CronExpression {
  const name = `${dialect} ${expression}`;
  const known = expressions.get(name);
  if (known) return known;
  const cron = parseCron(expression, dialect);
  if (expressions.size >= maxParsed) expressions.clear();
  expressions.set(name, cron);
  return cron;
}

/** The delay of all fires of one job: between 0 and its jitter, and the same in every process and after every restart. */
function jitterOf({ jitterMs = 0 }: Trigger, key: string): number {
  if (jitterMs === 0) return 0;
  return createHash('sha256').update(key).digest().readUInt32BE() % (jitterMs + 1);
}
