import { expect, it } from 'vitest';
import { fittingRows } from './fitting-rows.ts';
import { KnownRows } from './known-rows.ts';

/** Reads again and again, as a feed does: lane 0 always has small rows, of which the oldest half is removed before each read; lane 1 a large one. */
function readsUntilGiven(largeBytes: number): number {
  const known = new KnownRows();
  let waited: ReadonlySet<number> = new Set();
  let next = 0;
  const roomOf = (): number => 3_000 - known.bytes;
  let held: string[] = [];
  for (let reads = 1; reads <= 50; reads++) {
    const small = Array.from({ length: 20 }, (_, i) => ({ id: `${next + i}`, lane: 0, bytes: 100 }));
    const large = { id: 'large', lane: 1, bytes: largeBytes };
    const listed = waited.has(1) ? [large, ...small] : [...small, large];
    const { rows, waits } =
      roomOf() > 0 ? fittingRows(listed, waited.has(1) ? [1, 0] : [0, 1], known, roomOf(), waited) : { rows: [], waits: waited };
    if (rows.some(({ id }) => id === 'large')) return reads;
    known.add(rows.map(({ id }) => ({ id, bytes: 300 })));
    held.push(...rows.map(({ id }) => id));
    next += rows.length;
    waited = waits;
    const gone = held.slice(0, Math.ceil(held.length / 2));
    held = held.slice(gone.length);
    known.forget(gone.map((id) => ({ id, lane: 0 })));
  }
  return Number.POSITIVE_INFINITY;
}

it.each([500, 2_500, 9_000])('gives a row of %i bytes its turn although another lane always has small ones', (bytes) => {
  expect(readsUntilGiven(bytes)).toBeLessThan(10);
});
