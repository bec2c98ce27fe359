import { expect, it } from 'vitest';
import { type Look, LookBack } from './look-back.ts';

/** Lets a look take `ms`, without giving way to others. */
function take(ms: number): void {
  for (const began = performance.now(); performance.now() - began < ms; );
}

it('looks over everything at each turn while that takes no time', () => {
  const lookBack = new LookBack();
  const backs: (number | undefined)[] = [];
  for (let i = 0; i < 3; i++) {
    const look = lookBack.begin();
    look.ended();
    backs.push(look.backMs);
    take(5);
  }
  expect(backs).toEqual([undefined, undefined, undefined]);
});

/** Looks over everything twice, each for `ms`. */
function slowLooks(lookBack: LookBack, ms: number, oftener?: number): void {
  for (let i = 0; i < 2; i++) {
    const look = lookBack.begin(true);
    take(ms);
    look.ended(oftener);
  }
}

it('looks over everything for a twentieth of the time at most, and goes back less far in between', () => {
  const lookBack = new LookBack();
  slowLooks(lookBack, 30);
  const looks: Look[] = [];
  for (const began = performance.now(); performance.now() - began < 400; ) {
    const look = lookBack.begin();
    looks.push(look);
    take(2);
    look.ended();
  }
  const backs = looks.map(({ backMs }) => backMs);
  expect(backs).not.toContain(undefined);
  // The look over everything covered the others: each depth is due again when its own time has passed.
  expect(new Set(backs)).toEqual(new Set([25, 200]));
  expect(backs.filter((ms) => ms === 200).length).toBeLessThan(3);
  expect(backs.filter((ms) => ms === 25).length).toBeGreaterThan(4);
});

it('says of a look that took long that others should not wait for the next, and begins no second one beside it', () => {
  const lookBack = new LookBack();
  slowLooks(lookBack, 12, 1_000);
  take(2);
  const second = lookBack.begin();
  expect(second).toMatchObject({ backMs: undefined, slow: true });
  expect(lookBack.begin().backMs).not.toBe(undefined);
  second.ended();
});

it('looks over everything when it is asked to', () => {
  const lookBack = new LookBack();
  slowLooks(lookBack, 12);
  expect(lookBack.begin(true).backMs).toBe(undefined);
});

it.each(['ended', 'failed'] as const)('does not let one look that waited for a lock and %s put off the next', (how) => {
  const lookBack = new LookBack();
  const stalled = lookBack.begin();
  take(30);
  stalled[how]();
  take(2);
  const next = lookBack.begin();
  expect(next).toMatchObject({ backMs: undefined, slow: false });
  next.ended();
  take(30);
  expect(lookBack.begin()).toMatchObject({ backMs: undefined, slow: false });
});

it('puts off looks over everything that fail again and again after a long time, and says that none should wait for them', () => {
  const lookBack = new LookBack();
  for (let i = 0; i < 2; i++) {
    const look = lookBack.begin(true);
    take(12);
    look.failed();
  }
  expect(lookBack.begin().backMs).not.toBe(undefined);
  take(250);
  expect(lookBack.begin()).toMatchObject({ backMs: undefined, slow: true });
});
