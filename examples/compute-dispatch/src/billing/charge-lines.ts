import { type Folded, ranMs } from '../power/fold.ts';

/** The part of a lease that is billed so far. */
export interface Billed {
  /** `undefined` if nothing is billed yet. */
  readonly toMs: number | undefined;
  /** The running time in all lines so far, in ms. */
  readonly ms: number;
  /** The number of lines so far. */
  readonly lines: number;
}

export interface ChargeLine {
  readonly number: number;
  readonly kind: 'usage' | 'adjustment';
  readonly fromMs: number;
  readonly toMs: number;
  /** Negative if too much was billed before. */
  readonly ms: number;
  readonly amountCents: number;
}

/**
 * Lines that bring a lease's bill up to date with its events: one that corrects earlier lines, and one for the usage since. A running
 * machine is billed by full periods. Cents are the rounded total less the total before, so that their sum does not depend on
 * how a time was cut into lines.
 */
export function chargeLines(
  billed: Billed,
  folded: Folded,
  nowMs: number,
  periodMs: number,
  centsPerHour: number,
): { readonly lines: readonly ChargeLine[]; readonly billed: Billed; readonly dueMs: number | undefined } {
  const first = folded.intervals[0];
  if (!first && billed.ms === 0) return { lines: [], billed, dueMs: undefined };
  const last = folded.intervals.at(-1);
  const runsSince = last && last.toMs === undefined ? last.fromMs : undefined;
  const fromMs = billed.toMs ?? first?.fromMs ?? nowMs;
  const periods = runsSince === undefined ? 0 : Math.max(0, Math.floor((nowMs - runsSince) / periodMs));
  const untilMs = runsSince === undefined ? Math.max(last?.toMs ?? fromMs, billed.toMs ?? 0) : runsSince + periods * periodMs;
  const toMs = Math.max(untilMs, billed.toMs ?? untilMs);
  const lines: ChargeLine[] = [];
  let ms = billed.ms;
  const add = (kind: ChargeLine['kind'], totalMs: number, from: number, to: number): void => {
    if (totalMs === ms) return;
    const amountCents = cents(totalMs, centsPerHour) - cents(ms, centsPerHour);
    lines.push({ number: billed.lines + lines.length + 1, kind, fromMs: from, toMs: to, ms: totalMs - ms, amountCents });
    ms = totalMs;
  };
  if (billed.toMs !== undefined)
    add('adjustment', ranMs(folded.intervals, billed.toMs), Math.min(first?.fromMs ?? fromMs, fromMs), billed.toMs);
  add('usage', ranMs(folded.intervals, toMs), fromMs, toMs);
  return {
    lines,
    billed: { toMs, ms, lines: billed.lines + lines.length },
    dueMs: runsSince === undefined ? undefined : Math.max(toMs, runsSince) + periodMs,
  };
}

function cents(ms: number, centsPerHour: number): number {
  return Math.round((centsPerHour * ms) / 3_600_000);
}
