import fc from 'fast-check';
import { expect, it } from 'vitest';
import { RateWindow } from './rate-window.ts';

/** Starts as many as may start at each moment. Returns the moment of each start. */
function startAll(limit: number, perMs: number, asks: readonly { readonly afterMs: number; readonly wanted: number }[]): number[] {
  let window = new RateWindow(limit, perMs);
  const starts: number[] = [];
  let now = 0;
  for (const { afterMs, wanted } of asks) {
    now += afterMs;
    // As between two processes: only what it gives out is kept.
    window = new RateWindow(limit, perMs, JSON.parse(JSON.stringify(window.moments)));
    const count = Math.min(wanted, window.free(now));
    window.add(now, count);
    for (let i = 0; i < count; i++) starts.push(now);
    if (count < wanted) expect(window.waitMs(now)).toBeGreaterThan(0);
  }
  return starts;
}

const asks = (max: number) =>
  fc.array(fc.record({ afterMs: fc.nat(120), wanted: fc.integer({ min: 1, max: 8 }) }), { minLength: 1, maxLength: max });

it('lets no more than its limit start in any period, whenever it begins', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 200 }), fc.integer({ min: 1, max: 2_000 }), asks(400), (limit, perMs, all) => {
      const starts = startAll(limit, perMs, all);
      for (let i = limit; i < starts.length; i++) expect((starts[i] ?? 0) - (starts[i - limit] ?? 0)).toBeGreaterThanOrEqual(perMs);
    }),
  );
});

it('lets as many start as its limit allows', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 2_000 }), asks(60), (limit, perMs, all) => {
      const starts = startAll(limit, perMs, all);
      let now = 0;
      let index = 0;
      for (const { afterMs, wanted } of all) {
        now += afterMs;
        const recent = starts.filter((at, i) => i < index && now - at < perMs).length;
        const expected = Math.min(wanted, limit - recent);
        expect(starts.slice(index, index + expected)).toEqual(Array.from({ length: expected }, () => now));
        index += expected;
      }
      expect(index).toBe(starts.length);
    }),
  );
});

it('says when another may start', () => {
  const window = new RateWindow(2, 100);
  expect(window.waitMs(0)).toBe(0);
  window.add(0, 1);
  window.add(30, 1);
  expect(window.waitMs(40)).toBe(60);
  expect(window.waitMs(100)).toBe(0);
  // The limit was lowered: the older start alone makes no room.
  expect(new RateWindow(1, 100, window.moments).waitMs(40)).toBe(90);
});

it('stays small, whatever happens', () => {
  const window = new RateWindow(1_000_000, 60_000);
  for (let now = 0; now < 30_000; now += 3) window.add(now, 1);
  expect(window.moments.length).toBeLessThanOrEqual(64);
  expect(JSON.stringify(window.moments).length).toBeLessThan(4_000);
});
