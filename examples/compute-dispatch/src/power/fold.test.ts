import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Billed, chargeLines } from '../billing/charge-lines.ts';
import type { StoredPowerEvent } from './event.ts';
import { fold, ranMs } from './fold.ts';

const periodMs = 60;
const centsPerHour = 3_600_000;

function event(
  kind: StoredPowerEvent['kind'],
  occurredMs: number,
  sequence: number,
  source: StoredPowerEvent['source'] = 'room',
): StoredPowerEvent {
  return { id: `${source}-${kind}-${occurredMs}-${sequence}`, kind, source, occurredMs, sequence };
}

/** What a machine may do in its lease, and what of it may be told: on and off by turns, with failures and guesses between. It ends off. */
const history = fc
  .array(fc.record({ after: fc.integer({ min: 1, max: 500 }), fails: fc.boolean(), listed: fc.boolean(), guessed: fc.boolean() }), {
    maxLength: 12,
  })
  .map((steps) => {
    const events: StoredPowerEvent[] = [];
    let at = 1_000;
    for (const [i, { after, fails, listed, guessed }] of steps.slice(0, steps.length - (steps.length % 2)).entries()) {
      at += after;
      const kind = i % 2 === 0 ? 'ON' : 'OFF';
      if (fails) events.push(event(`${kind}_FAILED`, at - 1, i * 10));
      events.push(event(kind, at, i * 10 + 1));
      if (listed) events.push(event(kind, at, i * 10 + 1, 'listing'));
      if (guessed) events.push(event('OFF', at, 0, 'provisional'));
    }
    return events;
  });

/** Bills as the service does: again after each event that comes, and now and then without one. */
function bill(
  arrivals: readonly StoredPowerEvent[],
  looksAt: readonly number[],
  endMs: number,
): { readonly ms: number; readonly cents: number } {
  let billed: Billed = { toMs: undefined, ms: 0, lines: 0 };
  let cents = 0;
  let ms = 0;
  const look = (known: readonly StoredPowerEvent[], nowMs: number): void => {
    const next = chargeLines(billed, fold(known), nowMs, periodMs, centsPerHour);
    billed = next.billed;
    for (const line of next.lines) {
      cents += line.amountCents;
      ms += line.ms;
    }
    expect(billed.ms).toBe(ms);
  };
  arrivals.forEach((_, i) => {
    look(arrivals.slice(0, i + 1), looksAt[i % Math.max(1, looksAt.length)] ?? 0);
  });
  look(arrivals, endMs);
  look(arrivals, endMs);
  return { ms, cents };
}

describe('a bill', () => {
  it('is the same for every permutation and repetition of the events, and for every time of looking', () => {
    fc.assert(
      fc.property(
        history.chain((events) =>
          fc.record({
            events: fc.constant(events),
            shuffled: fc
              .shuffledSubarray([...events, ...events], { minLength: 0, maxLength: events.length * 2 })
              .map((some) => [...some, ...events]),
            looksAt: fc.array(fc.integer({ min: 0, max: 10_000 }), { maxLength: 5 }),
          }),
        ),
        ({ events, shuffled, looksAt }) => {
          const once = bill(events, [10_000], 10_000);
          expect(bill(shuffled, looksAt, 10_000)).toEqual(once);
          expect(bill([...events].reverse(), looksAt, 10_000)).toEqual(once);
          // Cents are those of the whole time, however it was cut.
          expect(once.cents).toBe(once.ms);
        },
      ),
      { numRuns: Number(process.env.HOLDFAST_WORLDS ?? 500) },
    );
  });

  it('of a lease is never more than what its machine ran, whatever is lost of what it told; and exactly that where both ends are known', () => {
    const lease = fc.record({
      onMs: fc.integer({ min: 1, max: 500 }),
      ranMs: fc.integer({ min: 0, max: 500 }),
      seenAfterMs: fc.integer({ min: 0, max: 500 }),
      known: fc.subarray(['ON', 'ON listed', 'OFF', 'OFF_FAILED', 'OFF answered', 'guess', 'guess again']),
    });
    fc.assert(
      fc.property(lease, ({ onMs, ranMs: truth, seenAfterMs, known }) => {
        const offMs = onMs + truth;
        // The last time at which it was seen to run is before it stopped.
        const seenMs = Math.min(offMs, onMs + seenAfterMs);
        const all: Record<string, StoredPowerEvent> = {
          ON: event('ON', onMs, 1),
          'ON listed': event('ON', onMs, 1, 'listing'),
          OFF_FAILED: event('OFF_FAILED', seenMs, 2),
          OFF: event('OFF', offMs, 3),
          'OFF answered': event('OFF', offMs, 0, 'release'),
          guess: event('OFF', seenMs, 0, 'provisional'),
          'guess again': event('OFF', onMs, 0, 'provisional'),
        };
        const folded = fold(known.map((name) => all[name] as StoredPowerEvent));
        const billed = ranMs(folded.intervals, offMs);
        expect(billed).toBeLessThanOrEqual(truth);
        const bothEnds = known.some((name) => name.startsWith('ON')) && (known.includes('OFF') || known.includes('OFF answered'));
        if (bothEnds) expect(folded.intervals.reduce((sum, { fromMs, toMs }) => sum + ((toMs ?? 1e9) - fromMs), 0)).toBe(truth);
      }),
      { numRuns: Number(process.env.HOLDFAST_WORLDS ?? 2_000) },
    );
  });

  it('reads what is not known in favour of the customer', () => {
    // Two power-ons without the power-off between them: the first counts for nothing.
    expect(fold([event('ON', 100, 1), event('ON', 500, 5), event('OFF', 600, 6)]).intervals).toEqual([{ fromMs: 500, toMs: 600 }]);
    // The listing says the same as the room did.
    expect(fold([event('ON', 100, 1), event('ON', 100, 1, 'listing'), event('OFF', 600, 6)]).intervals).toEqual([
      { fromMs: 100, toMs: 600 },
    ]);
    // A guess, until something real is known of that time or after it.
    const guessed = [event('ON', 100, 1), event('OFF', 300, 0, 'provisional')];
    expect(fold(guessed)).toMatchObject({ power: 'OFF', intervals: [{ fromMs: 100, toMs: 300 }] });
    expect(fold([...guessed, event('OFF', 700, 2)]).intervals).toEqual([{ fromMs: 100, toMs: 700 }]);
    expect(fold([...guessed, event('OFF', 200, 2)]).intervals).toEqual([{ fromMs: 100, toMs: 200 }]);
    expect(fold([event('OFF', 50, 0), event('ON_FAILED', 60, 1)])).toMatchObject({ power: 'OFF', intervals: [], failedToStart: false });
    expect(fold([event('ON_FAILED', 60, 1)])).toMatchObject({ power: undefined, failedToStart: true });
    expect(fold([event('ON_FAILED', 60, 1), event('ON', 70, 2)])).toMatchObject({ power: 'ON', failedToStart: false });
  });

  it('counts nothing after the end of the lease', () => {
    const late = [event('ON', 100, 1), event('OFF', 700, 2)];
    expect(fold(late, 300)).toMatchObject({ power: 'OFF', intervals: [{ fromMs: 100, toMs: 300 }] });
    expect(fold(late, 700).intervals).toEqual([{ fromMs: 100, toMs: 700 }]);
    expect(fold(late, 100).intervals).toEqual([]);
    expect(fold(late.slice(0, 1), 300)).toMatchObject({ power: 'ON', intervals: [{ fromMs: 100, toMs: 300 }] });
    expect(fold(late.slice(0, 1)).intervals).toEqual([{ fromMs: 100, toMs: undefined }]);
  });

  it('puts right what was billed too long, in a line of its own', () => {
    const on = event('ON', 0, 1);
    const running = chargeLines({ toMs: undefined, ms: 0, lines: 0 }, fold([on]), 200, periodMs, centsPerHour);
    expect(running.lines).toEqual([{ number: 1, kind: 'usage', fromMs: 0, toMs: 180, ms: 180, amountCents: 180 }]);
    expect(running.dueMs).toBe(240);
    const ended = chargeLines(running.billed, fold([on, event('OFF', 100, 2)]), 300, periodMs, centsPerHour);
    expect(ended.lines).toEqual([{ number: 2, kind: 'adjustment', fromMs: 0, toMs: 180, ms: -80, amountCents: -80 }]);
    expect(ended.dueMs).toBeUndefined();
  });
});
