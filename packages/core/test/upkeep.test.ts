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
    rescue: async () => 'rescued',
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
  expect(await Promise.all(results)).toEqual(['rescued', 'repaired']);
});
