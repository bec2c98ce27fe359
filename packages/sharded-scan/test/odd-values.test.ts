import { foreignErrors } from '@holdfast/core/testing';
import { expect, it } from 'vitest';
import { inspectScans } from '../src/index.ts';
import { onEveryPair } from './suite.ts';

onEveryPair('odd values', (suite) => {
  const by = { actor: 'ann', reason: 'odd' };

  it('are answered, or refused with an error that says so, wherever a caller names a pass or a unit', async () => {
    const scan = suite.scan();
    const inspect = inspectScans({ state: suite.databases[0].knex });
    try {
      expect(
        await foreignErrors({
          get: (id) => inspect.get(id),
          ...Object.fromEntries(
            ['kind', 'status', 'after', 'limit'].map((name) => [`list ${name}`, (value: never) => inspect.list({ [name]: value })]),
          ),
          ...Object.fromEntries(Object.entries(inspect.actions).map(([name, act]) => [name, (target: never) => act(target, by)])),
          'cancel actor': (actor) => inspect.actions.cancel('a/all', { ...by, actor }),
          'progress only': (only) => scan.progress({ only }),
          'progress only one': (only) => scan.progress({ only: [only] as never }),
          'progress shard': (shard) => scan.progress({ shard }),
        }),
      ).toEqual([]);
    } finally {
      await inspect.close();
    }
  });
});
