import { instantsOfDay } from './wall-times.ts';
import type { Instant, Zone } from './zone.ts';

/** Times of day at a fixed distance, on given weekdays. */
export interface DailyTimes {
  /** The first time of day, in milliseconds from midnight. */
  readonly fromMs: number;
  /** The last time of day, included; in milliseconds from midnight. */
  readonly toMs: number;
  readonly everyMs: number;
  /** 0 is Sunday. */
  readonly weekdays: ReadonlySet<number>;
}

const dayMs = 86_400_000;

/** The fires of daily times after an instant, in order, without an end. */
export function* dailyFires(daily: DailyTimes, zone: Zone, after: Instant): Generator<Instant> {
  const { fromMs, toMs, everyMs, weekdays } = daily;
  function* times(from: number): Generator<number> {
    const skipped = Math.max(0, Math.ceil((from - fromMs) / everyMs));
    for (let at = fromMs + skipped * everyMs; at <= toMs; at += everyMs) yield at;
  }
  let last = after;
  for (let day = Math.floor(zone.wall(after) / dayMs) * dayMs - dayMs; ; day += dayMs) {
    if (!weekdays.has(new Date(day).getUTCDay())) continue;
    for (const at of instantsOfDay(zone, day, { times, interval: true }, last)) {
      yield at;
      last = at;
    }
  }
}
