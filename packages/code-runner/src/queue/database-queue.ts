import type { RunQueueOf } from './run-queue.ts';

/** Rings by the runner's own wakers (LISTEN on Postgres, the file on SQLite, Redis where one is given); workers also look by themselves. */
export function databaseQueue(): RunQueueOf {
  return (wake) => ({
    name: 'the database',
    async ring(bells) {
      for (const pool of new Set(bells.map((bell) => bell.pool))) wake.ring(pool);
      return bells.map(() => 'rung');
    },
    async listen(pools, { look }) {
      const stop = wake.listen((pool) => {
        if (pools.includes(pool)) void look(pool);
      });
      return { want: () => undefined, close: async () => stop() };
    },
    probe: async () => undefined,
    close: async () => undefined,
  });
}
