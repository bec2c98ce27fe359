import { expect, it } from 'vitest';
import { defineLoop, silentLogger } from '../src/index.ts';
import { until } from '../src/testing/index.ts';

it('runs a pass that is due at an instant then, and not before', async () => {
  const due: number[] = [];
  const early: number[] = [];
  await using loop = defineLoop({
    name: 'aimed',
    logger: silentLogger,
    runOnce: async () => {
      const at = due.at(-1);
      if (at !== undefined && performance.now() < at) early.push(at - performance.now());
    },
    pauseMs: () => {
      due.push(performance.now() + 20.3);
      return { untilMs: 20.3 };
    },
  });
  await loop.start();
  await until(() => due.length > 12);
  expect(early).toEqual([]);
});
