import { expect, it } from 'vitest';
import { createUpkeep, silentLogger, type Upkeep, type WorkTable } from '../src/index.ts';
import { until } from '../src/testing/index.ts';

const signal = new AbortController().signal;

function upkeep(promoted: number[], counts: number[] = [], repair?: () => Promise<unknown>): Upkeep {
  const table = { promote: async () => promoted.shift() ?? 0, nextDueMs: async () => 60_000 };
  return createUpkeep({
    table: table as unknown as WorkTable,
    logger: silentLogger,
    leaseMs: 30_000,
    minPollMs: 2,
    maxPollMs: () => 60_000,
    onPromoted: (count) => void counts.push(count),
    rescue: async () => 3,
    repair,
  });
}

it('promotes at once again after a full pass, and otherwise when a row is due before the end of the pause', async () => {
  const counts: number[] = [];
  const { promote, scheduledIn } = upkeep([1_000, 3], counts);
  await promote.start();
  await until(() => counts.length === 2);
  scheduledIn(70_000);
  await promote.runOnce({ signal });
  expect(counts).toEqual([1_000, 3, 0]);
  scheduledIn(10);
  await until(() => counts.length === 4);
  await promote.stop();
});

it('repairs turns and slots only for a worker that has any', async () => {
  expect(upkeep([]).others).toHaveLength(1);
  const results = upkeep([], [], async () => 'repaired').others.map((loop) => loop.runOnce({ signal }));
  expect(await Promise.all(results)).toEqual([3, 'repaired']);
});

it('makes a backlog of rows READY that are long overdue without a pause, also where looks over everything take long', async () => {
  let left = 0;
  const counts: number[] = [];
  const backs: (number | undefined)[] = [];
  const table = {
    promote: async (limit: number, backMs?: number) => {
      backs.push(backMs);
      const found = backMs === undefined ? Math.min(left, limit) : 0;
      if (backMs === undefined) for (const began = performance.now(); performance.now() - began < 25; );
      left -= found;
      return found;
    },
    nextDueMs: async () => undefined,
  };
  const { promote } = createUpkeep({
    table: table as unknown as WorkTable,
    logger: silentLogger,
    leaseMs: 30_000,
    minPollMs: 2,
    maxPollMs: () => 5_000,
    onPromoted: (count) => void counts.push(count),
    rescue: async () => 0,
  });
  await promote.start();
  // Two empty looks over everything take long: from here on most looks go back less far.
  await until(() => counts.length > 1);
  promote.wake();
  await until(() => backs.some((ms) => ms !== undefined));
  left = 5_000;
  await until(() => left === 0, { withinMs: 3_000 });
  await promote.stop();
  expect(counts.filter((count) => count === 1_000)).toHaveLength(5);
});

it('makes rows READY also while the server ends each look over everything at its limit', async () => {
  let full = 0;
  let short = 0;
  const table = {
    promote: async (_limit: number, backMs?: number) => {
      if (backMs !== undefined) return (short += 1) === 1 ? 1 : 0;
      full += 1;
      // The first is in time. Then rows that have gone pile up in the index.
      if (full === 1) return 0;
      for (const began = performance.now(); performance.now() - began < 25; );
      throw new Error('canceling statement due to statement timeout');
    },
    nextDueMs: async () => undefined,
  };
  const counts: number[] = [];
  const { promote } = createUpkeep({
    table: table as unknown as WorkTable,
    logger: silentLogger,
    leaseMs: 30_000,
    minPollMs: 2,
    maxPollMs: () => 20,
    onPromoted: (count) => void counts.push(count),
    rescue: async () => 0,
  });
  await promote.start();
  await until(() => counts.includes(1), { withinMs: 3_000 });
  await promote.stop();
  expect(full).toBeLessThan(5);
});
