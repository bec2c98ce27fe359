import { InvalidArgumentError, shownValue } from '@holdfast/core';
import type { Throttle } from './throttle.ts';

const minuteMs = 60_000;
const dayMinutes = 24 * 60;

/**
 * A throttle that lets a scan work only between two times of the day, as in `openHours('22:00-06:00', { timeZone: 'Europe/Berlin' })`.
 * Outside of these hours the scan waits. Default time zone: UTC. `now` replaces the process's clock in tests.
 * @throws InvalidArgumentError if the hours or the time zone are not valid
 */
export function openHours(hours: string, options: { readonly timeZone?: string; readonly now?: () => Date } = {}): Throttle {
  const { timeZone = 'UTC', now = () => new Date() } = options;
  const [, fromHour, fromMinute, toHour, toMinute] = /^([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)$/.exec(hours) ?? [];
  const from = Number(fromHour) * 60 + Number(fromMinute);
  const length = (Number(toHour) * 60 + Number(toMinute) - from + dayMinutes) % dayMinutes;
  if (!(length > 0)) throw new InvalidArgumentError(`openHours got ${shownValue(hours)}; give two different times, as in '22:00-06:00'.`);
  let clock: Intl.DateTimeFormat;
  try {
    clock = new Intl.DateTimeFormat('en', { timeZone, hourCycle: 'h23', hour: 'numeric', minute: 'numeric' });
  } catch (cause) {
    throw new InvalidArgumentError(
      `timeZone is ${shownValue(timeZone)}, which is not a known time zone; give one such as 'Europe/Berlin'.`,
      { cause },
    );
  }
  return () => {
    const date = now();
    const part = (type: string): number => Number(clock.formatToParts(date).find((one) => one.type === type)?.value);
    const since = (part('hour') * 60 + part('minute') - from + dayMinutes) % dayMinutes;
    if (since < length) return 0;
    // No longer than to the end of the minute: daylight saving time may begin or end during the wait.
    return minuteMs - (date.getTime() % minuteMs);
  };
}
