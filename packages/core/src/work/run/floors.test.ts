import { expect, it } from 'vitest';
import { Floors } from './floors.ts';

const floors = (): Floors => {
  const made = new Floors();
  made.clock(1_000_000);
  return made;
};

it('rises with what is claimed, and follows a look', () => {
  const f = floors();
  f.claimed('k', 'g', undefined, 100);
  f.claimed('k', 'g', 100, 200);
  expect(f.get('k', 'g')).toBe(200);
  f.found('k', 'g', 150);
  expect(f.get('k', 'g')).toBe(150);
  expect(f.list(25)).toEqual([{ kind: 'k', group: 'g', rank: 125 }]);
});

it('stays low when a claim ends that began above a row which a look has found since', () => {
  const f = floors();
  f.claimed('k', 'g', undefined, 100);
  f.found('k', 'g', 10);
  f.claimed('k', 'g', 100, 200);
  expect(f.get('k', 'g')).toBe(10);
});

it('stays forgotten when a claim ends that began before another claim failed', () => {
  const f = floors();
  f.claimed('k', 'g', undefined, 100);
  f.forget('k', 'g');
  f.claimed('k', 'g', 100, 300);
  expect(f.get('k', 'g')).toBe(undefined);
});

it('is never above the time of the database: a row of negative priority has a rank in the future', () => {
  const f = floors();
  f.claimed('k', 'g', undefined, 9_000_000);
  expect(f.get('k', 'g')).toBeLessThan(1_001_000);
  expect(f.get('k', 'g')).toSatisfy(Number.isSafeInteger);
});

it('keeps the 32 groups that were claimed from last', () => {
  const f = floors();
  for (let i = 0; i < 40; i++) f.claimed('k', `g${i}`, undefined, 1);
  expect(f.size).toBe(32);
  expect(f.get('k', 'g0')).toBe(undefined);
  expect(f.get('k', 'g39')).toBe(1);
});

it('begins at what a look found, and stays there when a claim ends that began before the look', () => {
  const f = floors();
  f.found('k', 'g', 50);
  expect(f.get('k', 'g')).toBe(50);
  f.claimed('k', 'g', undefined, 300);
  expect(f.get('k', 'g')).toBe(50);
  f.claimed('k', 'g', 50, 400);
  expect(f.get('k', 'g')).toBe(400);
});
