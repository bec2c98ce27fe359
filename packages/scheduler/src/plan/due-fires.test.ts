import { describe, expect, it } from 'vitest';
import { cron, delay } from '../trigger/trigger.ts';
import { dueFires, type MissedPolicy } from './due-fires.ts';

const minute = 60_000;
const now = Date.UTC(2026, 0, 1, 12, 0, 30);
const at = (hour: number, minutes = 0): number => Date.UTC(2026, 0, 1, hour, minutes);
const context = { key: 'k', created: 0 };

describe('the fires that a pass plans', () => {
  it.each<[MissedPolicy, readonly number[], unknown]>([
    ['skip', [at(12)], { first: at(9), last: at(11), count: 3 }],
    ['once', [at(11), at(12)], { first: at(9), last: at(10), count: 2 }],
    ['all', [at(9), at(10), at(11), at(12)], undefined],
  ])('with missed: %s', (missed, runs, skipped) => {
    const found = dueFires(cron('@hourly'), context, at(9), missed, { now, until: now + 10_000, graceMs: minute });
    expect(found).toEqual({ runs, skipped, next: at(13) });
  });
  it('are those up to the horizon, and no more than a thousand', () => {
    const found = dueFires(cron('* * * * * *'), context, now, 'all', { now, until: now + 10_000, graceMs: minute });
    expect(found.runs).toEqual(Array.from({ length: 11 }, (_, i) => now + i * 1000));
    expect(found.next).toBe(now + 11_000);
    const many = dueFires(cron('* * * * * *'), context, now - 86_400_000, 'all', { now, until: now + 10_000, graceMs: minute });
    expect([many.runs.length, many.next]).toEqual([1000, now - 86_400_000 + 1_000_000]);
  });
  it('of a fixed delay are the one that its row names', () => {
    const found = dueFires(delay('10s'), context, now + 5_000, 'once', { now, until: now + 10_000, graceMs: minute });
    expect(found).toEqual({ runs: [now + 5_000], skipped: undefined, next: undefined });
  });
});
