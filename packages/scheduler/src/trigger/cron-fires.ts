import type { CronExpression } from './cron-expression.ts';
import { instantsOfDay } from './wall-times.ts';
import type { Instant, Zone } from './zone.ts';

const lastYear = 2199;

/** The fires of an expression after an instant, in order. The sequence ends in the year 2199. */
export function* cronFires(cron: CronExpression, zone: Zone, after: Instant): Generator<Instant> {
  const times = (from: number): Iterable<number> => timesOfDay(cron, from);
  // A skipped time of the day before may have moved to this one.
  const first = new Date(zone.wall(after) - 86_400_000);
  let last = after;
  for (let months = first.getUTCFullYear() * 12 + first.getUTCMonth(); months < (lastYear + 1) * 12; months++) {
    const [year, month] = [Math.floor(months / 12), months % 12];
    if (!cron.months.has(month + 1) || (cron.years && !cron.years.has(year))) continue;
    const start = new Date(Date.UTC(year, month, 1));
    const length = new Date(Date.UTC(year, month + 1, 0)).getUTCDate();
    for (const day of cron.days({ weekday: start.getUTCDay(), length })) {
      const midnight = Date.UTC(year, month, day);
      if (midnight < first.getTime() - 86_400_000) continue;
      for (const at of instantsOfDay(zone, midnight, { times, interval: cron.interval }, last)) {
        yield at;
        last = at;
      }
    }
  }
}

/** The times of a day that an expression selects, in milliseconds from midnight, from `from` on. */
function* timesOfDay({ hours, minutes, seconds }: CronExpression, from: number): Generator<number> {
  for (const hour of hours) {
    if ((hour + 1) * 3_600_000 <= from) continue;
    for (const minute of minutes) {
      const start = hour * 3_600_000 + minute * 60_000;
      if (start + 60_000 <= from) continue;
      for (const second of seconds) {
        const at = start + second * 1000;
        if (at >= from) yield at;
      }
    }
  }
}
