import { InvalidArgumentError } from '@holdfast/core';
import { type DaysOfMonth, daysByNumber, daysByWeekday } from './cron-days.ts';
import { type FieldRange, fieldValues } from './cron-field.ts';

/**
 * How an expression is read. `unix`: 5, 6 or 7 fields, Sunday is 0 or 7, a day fires if its number or its weekday is selected, as in cron.
 * `quartz`: 6 or 7 fields, Sunday is 1, one of the two day fields is `?`, as in Quartz, PowerJob and xxl-job.
 */
export type CronDialect = 'unix' | 'quartz';

/** A parsed expression. */
export interface CronExpression {
  readonly seconds: readonly number[];
  readonly minutes: readonly number[];
  readonly hours: readonly number[];
  /** 1 to 12. */
  readonly months: ReadonlySet<number>;
  /** The days of one month, sorted, each once. */
  readonly days: DaysOfMonth;
  readonly years: ReadonlySet<number> | undefined;
  /** The hour is `*` or `*` with a step: fires follow elapsed time where a zone changes its offset. */
  readonly interval: boolean;
}

const second: FieldRange = { name: 'second', least: 0, most: 59 };
const minute: FieldRange = { name: 'minute', least: 0, most: 59 };
const hour: FieldRange = { name: 'hour', least: 0, most: 23 };
const month: FieldRange = {
  name: 'month',
  least: 1,
  most: 12,
  names: { JAN: 1, FEB: 2, MAR: 3, APR: 4, MAY: 5, JUN: 6, JUL: 7, AUG: 8, SEP: 9, OCT: 10, NOV: 11, DEC: 12 },
};
const year: FieldRange = { name: 'year', least: 1970, most: 2199 };
const weekdays: Readonly<Record<CronDialect, FieldRange>> = {
  unix: {
    name: 'weekday',
    least: 0,
    most: 7,
    names: { SUN: 0, MON: 1, TUE: 2, WED: 3, THU: 4, FRI: 5, SAT: 6 },
    value: (given) => given % 7,
  },
  quartz: {
    name: 'weekday',
    least: 1,
    most: 7,
    names: { SUN: 1, MON: 2, TUE: 3, WED: 4, THU: 5, FRI: 6, SAT: 7 },
    value: (given) => given - 1,
  },
};

const shorthands: Readonly<Record<string, string>> = {
  '@yearly': '0 0 1 1 *',
  '@annually': '0 0 1 1 *',
  '@monthly': '0 0 1 * *',
  '@weekly': '0 0 * * 0',
  '@daily': '0 0 * * *',
  '@midnight': '0 0 * * *',
  '@hourly': '0 * * * *',
};

/** @throws InvalidArgumentError with the field that is wrong, and with what it may hold */
export function parseCron(text: string, dialect: CronDialect): CronExpression {
  const given = typeof text === 'string' ? text.trim() : '';
  const fields = (dialect === 'unix' ? (shorthands[given.toLowerCase()] ?? given) : given).split(/\s+/);
  const count = fields.length;
  if (dialect === 'unix' && count === 5) fields.unshift('0');
  else if (count !== 6 && count !== 7)
    throw new InvalidArgumentError(
      `The cron expression '${given}' has ${given === '' ? 'no' : count} fields; ${
        dialect === 'unix'
          ? 'give 5 (minute, hour, day of the month, month, weekday), 6 (a second before them) or 7 (a year after them)'
          : 'give 6 (second, minute, hour, day of the month, month, weekday) or 7 (a year after them)'
      }.`,
    );
  if (dialect === 'quartz') refuseNamedSteps(given, [fields[4] ?? '', fields[5] ?? '']);
  const [seconds = '', minutes = '', hours = '', day = '', months = '', weekday = '', years = '*'] = fields;
  return {
    seconds: fieldValues(second, seconds),
    minutes: fieldValues(minute, minutes),
    hours: fieldValues(hour, hours),
    months: new Set(fieldValues(month, months)),
    days: sorted(dialect === 'unix' ? unixDays(day, weekday) : quartzDays(day, weekday)),
    years: years === '*' ? undefined : new Set(fieldValues(year, years)),
    interval: hours.startsWith('*'),
  };
}

/** Quartz itself accepts a step after a name, and ignores it: the job would fire at other times here than there. */
function refuseNamedSteps(given: string, fields: readonly string[]): void {
  const part = fields.flatMap((field) => field.split(',')).find((one) => /[A-Z].*\//i.test(one));
  if (part === undefined) return;
  throw new InvalidArgumentError(
    `The cron expression '${given}' has the step '${part}' after a name, which Quartz ignores; write numbers, as in 1-9/3, or leave the step out.`,
  );
}

/** Either field may select a day where both are restricted; a field that begins with `*` restricts the other (cron's own rule). */
function unixDays(day: string, weekday: string): DaysOfMonth {
  const [byNumber, byWeekday] = [daysByNumber(open(day)), daysByWeekday(open(weekday), weekdays.unix)];
  if (open(day).startsWith('*') || open(weekday).startsWith('*')) {
    return (month) => {
      const days = new Set(byWeekday(month));
      return byNumber(month).filter((found) => days.has(found));
    };
  }
  return (month) => [...byNumber(month), ...byWeekday(month)];
}

function open(field: string): string {
  return field === '?' ? '*' : field;
}

function quartzDays(day: string, weekday: string): DaysOfMonth {
  if ((day === '?') === (weekday === '?'))
    throw new InvalidArgumentError(
      `The day of the month is '${day}' and the weekday is '${weekday}'; in the dialect 'quartz' exactly one of the two is ?. Use dialect 'unix' to give both.`,
    );
  if (weekday === '?') return daysByNumber(day);
  // L alone is Quartz's way to say Saturday.
  return daysByWeekday(/^L$/i.test(weekday) ? 'SAT' : weekday, weekdays.quartz);
}

function sorted(days: DaysOfMonth): DaysOfMonth {
  return (month) => [...new Set(days(month))].sort((a, b) => a - b);
}
