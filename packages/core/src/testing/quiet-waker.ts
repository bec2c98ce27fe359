import type { Waker } from '../wake/waker.ts';

/**
 * A waker that counts as reliable and wakes nobody: for tests that count the statements of an idle worker. LISTEN hears the notifications of
 * every service in the same database of Postgres, those of other tests included.
 */
export const quietWaker: Waker = {
  reliable: true,
  wake() {
    // Nobody listens.
  },
  listen: () => () => undefined,
  close: async () => undefined,
};
