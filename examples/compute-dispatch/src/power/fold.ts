import type { StoredPowerEvent } from './event.ts';

/** A period in which a machine ran. It still runs if `toMs` is undefined. */
export interface Interval {
  readonly fromMs: number;
  readonly toMs: number | undefined;
}

/** The result of the events of a lease. */
export interface Folded {
  readonly power: 'ON' | 'OFF' | undefined;
  readonly intervals: readonly Interval[];
  /** True if switching the machine on failed, and it has not been on since. */
  readonly failedToStart: boolean;
  readonly offFailures: number;
}

/**
 * A pure function of the set of a lease's events: neither the order in which they came nor repetition changes the result.
 *
 * Unknown times are counted in the customer's favour. Of two power-ons without a power-off between them, the first does not count, since its
 * length is unknown. A provisional power-off holds until a real event of that time or later is known. After the lease has ended, at
 * `endedMs`, nothing counts, even if the room switched off later (it did not get the release before quarantine ended).
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
      // The room and its listing report the same power-on, with the same sequence.
      if (!open || event.sequence > open.sequence) open = event;
      power = 'ON';
      failedToStart = false;
    }
  }
  if (open) intervals.push({ fromMs: open.occurredMs, toMs: undefined });
  return { power, intervals: intervals.flatMap((one) => until(one, endedMs)), failedToStart, offFailures };
}

/** The part of the periods before `endedMs`. */
function until({ fromMs, toMs }: Interval, endedMs: number): readonly Interval[] {
  if ((toMs ?? Number.POSITIVE_INFINITY) <= endedMs) return [{ fromMs, toMs }];
  return fromMs < endedMs ? [{ fromMs, toMs: Number.isFinite(endedMs) ? endedMs : undefined }] : [];
}

/** The running time of the machine before `untilMs`, in ms. */
export function ranMs(intervals: readonly Interval[], untilMs: number): number {
  return intervals.reduce((sum, { fromMs, toMs }) => sum + Math.max(0, Math.min(toMs ?? untilMs, untilMs) - fromMs), 0);
}

function compare(a: number, b: number): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Among events of one millisecond, the end of the lease is the last. */
function place({ source, sequence }: StoredPowerEvent): number {
  return source === 'release' || source === 'provisional' ? Number.POSITIVE_INFINITY : sequence;
}

function isPower(kind: StoredPowerEvent['kind']): boolean {
  return kind === 'ON' || kind === 'OFF';
}
