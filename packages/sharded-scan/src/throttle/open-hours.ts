import { InvalidArgumentError } from '@holdfast/core';
import type { Throttle } from './throttle.ts';

const minuteMs = 60_000;
const dayMinutes = 24 * 60;

/**
 * Lets a scan work between two times of the day only, as in `openHours('22:00-06:00', { timeZone: 'Europe/Berlin' })`. Outside of
 * them it waits. Default time zone: UTC.
 * @throws InvalidArgumentError
 */
export function openHours(hours: string, options: { readonly timeZone?: string; readonly now?: () => Date } = {}): Throttle {
  const { timeZone = 'UTC', now = () => new Date() } = options;
  const [, fromHour, fromMinute, toHour, toMinute] = /^([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)$/.exec(hours) ?? [];
  const from = Number(fromHour) * 60 + Number(fromMinute);
  const length = (Number(toHour) * 60 + Number(toMinute) - from + dayMinutes) % dayMinutes;
  if (!(length > 0))
    throw new InvalidArgumentError(`openHours got ${JSON.stringify(hours)}; give two different times, as in '22:00-06:00'.`);
  let clock: Intl.DateTimeFormat;
  try {
    clock = new Intl.DateTimeFormat('en', { timeZone, hourCycle: 'h23', hour: 'numeric', minute: 'numeric' });
  } catch (cause) {
    throw new InvalidArgumentError(`openHours knows no time zone ${JSON.stringify(timeZone)}; give one as in 'Europe/Berlin'.`, { cause });
  }
  return () => {
    const date = now();
    const part = (type: string): number => Number(clock.formatToParts(date).find((one) => one.type === type)?.value);
    const since = (part('hour') * 60 + part('minute') - from + dayMinutes) % dayMinutes;
    if (since < length) return 0;
    // To the minute's end at most: the clocks may be put forward or back before the hour has come.
    return minuteMs - (date.getTime() % minuteMs);
  };
}
