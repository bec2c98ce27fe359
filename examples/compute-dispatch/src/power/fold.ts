import type { StoredPowerEvent } from './event.ts';

/** A time in which a machine ran; still does, where `toMs` is undefined. */
export interface Interval {
  readonly fromMs: number;
  readonly toMs: number | undefined;
}

/** What the events of a lease come to. */
export interface Folded {
  readonly power: 'ON' | 'OFF' | undefined;
  readonly intervals: readonly Interval[];
  /** Whether it was to be switched on, could not be, and has not been since. */
  readonly failedToStart: boolean;
  readonly offFailures: number;
}

/**
 * A pure function of the set of a lease's events: neither the order in which they came nor repetition changes the result.
 *
 * What is not known is read in the customer's favour. Two power-ons without the power-off between them: the first counts for nothing,
 * since nobody knows how long it lasted. A provisional power-off holds until something real is known from that time on. And after the lease
 * has ended, at `endedMs`, nothing is used, also where its room switched off later (nobody heard of the release before quarantine was over).
 */
export function fold(events: Iterable<StoredPowerEvent>, endedMs = Number.POSITIVE_INFINITY): Folded {
  const unique = [...new Map([...events].map((event) => [event.id, event])).values()];
  const lastRealMs = Math.max(
    ...unique.filter(({ source, kind }) => source !== 'provisional' && isPower(kind)).map(({ occurredMs }) => occurredMs),
  );
  const ordered = unique
    .filter(({ source, occurredMs }) => source !== 'provisional' || occurredMs >= lastRealMs)
    .sort((a, b) => a.occurredMs - b.occurredMs || compare(place(a), place(b)) || (a.id < b.id ? -1 : 1));
  const intervals: Interval[] = [];
  let open: StoredPowerEvent | undefined;
  let power: Folded['power'];
  let failedToStart = false;
  let offFailures = 0;
  for (const event of ordered) {
    if (event.kind === 'OFF_FAILED') offFailures += 1;
    else if (event.kind === 'ON_FAILED') failedToStart = power === undefined;
    else if (event.kind === 'OFF') {
      if (open && event.occurredMs > open.occurredMs) intervals.push({ fromMs: open.occurredMs, toMs: event.occurredMs });
      open = undefined;
      power = 'OFF';
    } else {
      // The same power-on is told by the room and by its listing, with one sequence.
      if (!open || event.sequence > open.sequence) open = event;
      power = 'ON';
      failedToStart = false;
    }
  }
  if (open) intervals.push({ fromMs: open.occurredMs, toMs: undefined });
  return { power, intervals: intervals.flatMap((one) => until(one, endedMs)), failedToStart, offFailures };
}

/** What of it was before `endedMs`. */
function until({ fromMs, toMs }: Interval, endedMs: number): readonly Interval[] {
  if ((toMs ?? Number.POSITIVE_INFINITY) <= endedMs) return [{ fromMs, toMs }];
  return fromMs < endedMs ? [{ fromMs, toMs: Number.isFinite(endedMs) ? endedMs : undefined }] : [];
}

/** For how many ms the machine ran before `untilMs`. */
export function ranMs(intervals: readonly Interval[], untilMs: number): number {
  return intervals.reduce((sum, { fromMs, toMs }) => sum + Math.max(0, Math.min(toMs ?? untilMs, untilMs) - fromMs), 0);
}

function compare(a: number, b: number): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Of what happened in one millisecond, the end of the lease is the last. */
function place({ source, sequence }: StoredPowerEvent): number {
  return source === 'release' || source === 'provisional' ? Number.POSITIVE_INFINITY : sequence;
}

function isPower(kind: StoredPowerEvent['kind']): boolean {
  return kind === 'ON' || kind === 'OFF';
}
