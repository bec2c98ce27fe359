import type { Database } from '../database/database.ts';
import { callListener } from '../observe/call-listener.ts';
import { idle } from '../time/wait.ts';
import { listenerFailed } from './channel-listeners.ts';
import type { WakeListener, Waker } from './waker.ts';

/**
 * Detects commits of other processes to the same SQLite file: `PRAGMA data_version` changes when another connection has written, and reads
 * no table. It does not tell what was written, so every commit wakes every listener.
 *
 * @param pollMs time between two reads of the version, in ms. Default 25.
 */
export function dataVersionWaker(database: Database, pollMs: number = 25): Waker {
  const listeners = new Set<WakeListener>();
  const closing = new AbortController();
  let reliable = false;
  const running = (async () => {
    for (let known: number | undefined; !closing.signal.aborted; ) {
      try {
        const [row] = await database.rows<{ data_version: number }>('PRAGMA data_version');
        if (row && known !== undefined && row.data_version !== known)
          for (const listener of listeners) queueMicrotask(() => callListener(() => listener([]), listenerFailed));
        known = row?.data_version;
        reliable = true;
      } catch {
        // A long transaction holds the connection, or the pool was closed. Meanwhile loops poll.
        reliable = false;
      }
      await idle(pollMs, closing.signal).catch(() => undefined);
    }
  })();
  return {
    get reliable() {
      return reliable;
    },
    wake() {
      // The commit itself wakes the other processes.
    },
    listen(_channel, listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    async close() {
      closing.abort(new Error('closed'));
      await running;
    },
  };
}
