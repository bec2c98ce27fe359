import { type Duration, durationMs, InvalidArgumentError, shownValue } from '@holdfast/core';
import { type CronDialect, parseCron } from './cron-expression.ts';
import { cronFires } from './cron-fires.ts';
import { type Instant, Zone } from './zone.ts';

/** What every trigger may say besides its own times. */
export interface TriggerOptions {
  /** No fire before this instant. Default: the job's creation. */
  readonly starts?: Date | string;
  /** No fire after this instant. Default: none. */
  readonly ends?: Date | string;
  /**
   * Delays each fire by an amount between 0 and this one, which is always the same for one job, so that jobs with the same times don't start as
   * a herd. Default: 0.
   */
  readonly jitter?: Duration;
  /** Names of calendars; a fire on a day that one of them rules out is left out. Default: none. */
  readonly calendar?: string | readonly string[];
}

/** Options of a trigger that names times of day. */
export interface ZonedOptions extends TriggerOptions {
  /** An IANA name, such as `'Asia/Shanghai'`. Default: `'UTC'`. */
  readonly zone?: string;
}

/** The part that all triggers share, as a job's row stores it. Instants are in milliseconds since 1970. */
export interface TriggerBounds {
  readonly starts?: Instant;
  readonly ends?: Instant;
  readonly jitterMs?: number;
  readonly calendars?: readonly string[];
}

export const weekdays = ['SUN', 'MON', 'TUE', 'WED', 'THU', 'FRI', 'SAT'] as const;
/** A day of the week. */
export type Weekday = (typeof weekdays)[number];

/** When a job fires: plain data, which a job's row stores as JSON. Make it with `cron`, `every`, `delay`, `daily`, `once` or `api`. */
export type Trigger = TriggerBounds &
  (
    | { readonly kind: 'cron'; readonly expression: string; readonly dialect: CronDialect; readonly zone: string }
    | { readonly kind: 'every'; readonly everyMs: number }
    | { readonly kind: 'delay'; readonly delayMs: number }
    | {
        readonly kind: 'daily';
        readonly everyMs: number;
        readonly fromMs: number;
        readonly toMs: number;
        readonly days: readonly Weekday[];
        readonly zone: string;
      }
    | { readonly kind: 'once'; readonly at: Instant }
    | { readonly kind: 'api' }
    | { readonly kind: 'workflow' }
  );

const dayMs = 86_400_000;
const leastEveryMs = 1000;

/**
 * Fires by a cron expression: 5 fields, 6 with a second before them, 7 with a year after them, or a shorthand such as `@daily`; with
 * `dialect: 'quartz'` as Quartz, PowerJob and xxl-job read it.
 * @throws InvalidArgumentError for an expression that is not valid or can never fire, and for a zone that does not exist
 */
export function cron(expression: string, options: ZonedOptions & { readonly dialect?: CronDialect } = {}): Trigger {
  const { dialect = 'unix', zone = 'UTC' } = options;
  if (dialect !== 'unix' && dialect !== 'quartz')
    throw new InvalidArgumentError(`dialect is ${shownValue(dialect)}; use 'unix' or 'quartz'.`);
  if (cronFires(parseCron(expression, dialect), Zone.of('UTC'), Date.UTC(1970, 0, 1) - 1).next().done)
    throw new InvalidArgumentError(`The cron expression '${expression}' can never fire: no year has such a day.`);
  return { kind: 'cron', expression: expression.trim(), dialect, zone: Zone.of(zone).name, ...bounds(options) };
}

/** Fires at a fixed rate, counted from `starts`: it never drifts, and a restart does not move it. @throws InvalidArgumentError below one second */
export function every(period: Duration, options: TriggerOptions = {}): Trigger {
  return { kind: 'every', everyMs: periodMs(period, 'every'), ...bounds(options) };
}

/** Fires a fixed time after the end of the last run, however the last run ended. @throws InvalidArgumentError below one second */
export function delay(pause: Duration, options: TriggerOptions = {}): Trigger {
  return { kind: 'delay', delayMs: periodMs(pause, 'delay'), ...bounds(options) };
}

/**
 * Fires every so often between two times of day, both included, on given weekdays: `daily({ every: '30m', from: '09:00', to: '18:00', days: ['MON'] })`.
 * @throws InvalidArgumentError for a time that is not HH:MM or HH:MM:SS, and for `to` before `from`
 */
export function daily(
  options: ZonedOptions & { readonly every: Duration; readonly from: string; readonly to: string; readonly days?: readonly Weekday[] },
): Trigger {
  const { days = weekdays, zone = 'UTC' } = options;
  const [fromMs, toMs] = [timeOfDay('from', options.from), timeOfDay('to', options.to)];
  if (toMs < fromMs)
    throw new InvalidArgumentError(`from is ${shownValue(options.from)} and to is ${shownValue(options.to)}; to must not be earlier.`);
  const wrong = days.find((day) => !weekdays.includes(day));
  if (wrong !== undefined || days.length === 0)
    throw new InvalidArgumentError(`days is ${shownValue(days)}; give at least one of ${weekdays.join(', ')}.`);
  const everyMs = periodMs(options.every, 'every');
  if (everyMs > dayMs) throw new InvalidArgumentError(`every is ${shownValue(options.every)}; it must not be longer than a day.`);
  return { kind: 'daily', everyMs, fromMs, toMs, days: [...days], zone: Zone.of(zone).name, ...bounds(options) };
}

/** Fires once, at an instant: a `Date`, or a text with a zone such as `'2027-01-01T00:00:00+08:00'`. */
export function once(at: Date | string, options: Omit<TriggerOptions, 'starts' | 'ends'> = {}): Trigger {
  return { kind: 'once', at: instant('at', at), ...bounds(options) };
}

/** Never fires by itself: a call triggers it. */
export function api(): Trigger {
  return { kind: 'api' };
}

function bounds({ starts, ends, jitter, calendar }: TriggerOptions): TriggerBounds {
  const from = starts === undefined ? undefined : instant('starts', starts);
  const until = ends === undefined ? undefined : instant('ends', ends);
  if (from !== undefined && until !== undefined && until < from)
    throw new InvalidArgumentError(`starts is ${shownValue(starts)} and ends is ${shownValue(ends)}; ends must not be earlier.`);
  const jitterMs = jitter === undefined ? 0 : durationMs(jitter, 'jitter');
  const calendars = calendar === undefined ? [] : typeof calendar === 'string' ? [calendar] : [...calendar];
  return {
    ...(from === undefined ? {} : { starts: from }),
    ...(until === undefined ? {} : { ends: until }),
    ...(jitterMs === 0 ? {} : { jitterMs }),
    ...(calendars.length === 0 ? {} : { calendars }),
  };
}

function periodMs(period: Duration, name: string): number {
  const ms = durationMs(period, name);
  if (ms < leastEveryMs) throw new InvalidArgumentError(`${name} is ${shownValue(period)}; the shortest is one second.`);
  return ms;
}

/** An instant; a text needs a zone, since the process's own zone is not one that a reader of the row can know. */
function instant(name: string, given: Date | string): Instant {
  const zoned = given instanceof Date || (typeof given === 'string' && /^\d{4}-\d\d-\d\dT\d\d:\d\d.*(?:Z|[+-]\d\d:?\d\d)$/.test(given));
  const at = zoned ? new Date(given).getTime() : Number.NaN;
  if (Number.isNaN(at))
    throw new InvalidArgumentError(
      `${name} is ${shownValue(given)}; give a Date, or a text with a zone such as '2027-01-01T00:00:00Z' or '2027-01-01T00:00:00+08:00'.`,
    );
  return at;
}

function timeOfDay(name: string, text: string): number {
  const match = typeof text === 'string' ? /^([01]\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?$/.exec(text) : null;
  if (!match) throw new InvalidArgumentError(`${name} is ${shownValue(text)}; give a time of day such as '09:00' or '18:30:15'.`);
  return ((Number(match[1]) * 60 + Number(match[2])) * 60 + Number(match[3] ?? 0)) * 1000;
}
