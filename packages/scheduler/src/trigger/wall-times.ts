import type { Instant, WallTime, Zone } from './zone.ts';

/** A day of a calendar, as the wall time of its midnight. */
export type Day = WallTime;

/** The instants of a day's wall times in a zone, in order, each once. */
export interface DayTimes {
  /** The offsets of the wall times from midnight, in milliseconds, in order, from `from` on. */
  readonly times: (from: number) => Iterable<number>;
  /** Fires follow elapsed time where the offset changes: none in a skipped hour, all of a repeated one. Else a skipped time moves to the first
   * instant after the gap, and a repeated one counts once. */
  readonly interval: boolean;
}

const dayMs = 86_400_000;

/** The instants after `after` on one day. */
export function* instantsOfDay(zone: Zone, day: Day, { times, interval }: DayTimes, after: Instant): Generator<Instant> {
  const start = zone.meaning(day);
  const end = zone.meaning(day + dayMs);
  if (start.kind === 'once' && end.kind === 'once' && end.at - start.at === dayMs) {
    for (const time of times(after - start.at + 1)) yield start.at + time;
    return;
  }
  // The offset changes on this day.
  const found = new Set<Instant>();
  for (const time of times(0)) {
    const meaning = zone.meaning(day + time);
    if (meaning.kind === 'skipped') {
      if (!interval) found.add(meaning.resumes);
    } else {
      found.add(meaning.at);
      if (meaning.kind === 'twice' && interval) found.add(meaning.again);
    }
  }
  yield* [...found].filter((at) => at > after).sort((a, b) => a - b);
}
