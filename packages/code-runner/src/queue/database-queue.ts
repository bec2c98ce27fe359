import type { RunQueueOf } from './run-queue.ts';

/** Sends signals over the runner's own wakers: LISTEN on Postgres, the file's version on SQLite, or the `waker` option. */
export function databaseQueue(): RunQueueOf {
  return (wake) => ({
    name: 'the database',
    async send(signals) {
      for (const pool of new Set(signals.map((signal) => signal.pool))) wake.send(pool);
      return signals.map(() => 'sent');
    },
    async listen(pools, { claimMore }) {
      const stop = wake.listen((pool) => {
        if (pools.includes(pool)) void claimMore(pool);
      });
      return { want: () => undefined, close: async () => stop() };
    },
    probe: async () => undefined,
    close: async () => undefined,
  });
}
