import { Database } from '../database/database.ts';
import type { Logger } from '../observe/logger.ts';
import { dataVersionWaker } from './data-version-waker.ts';
import { listenWaker } from './listen-waker.ts';
import type { Waker } from './waker.ts';

interface Shared {
  readonly waker: Waker;
  readonly database: Database;
  users: number;
}

const wakers = new WeakMap<object, Shared>();

/** The waker between processes that all packages over one knex share. */
export interface SharedWaker {
  readonly waker: Waker;
  /** Gives it up. The last user closes it. */
  leave(): Promise<void>;
}

/** Joins the waker of a knex: LISTEN on Postgres, the version of the file on SQLite. `undefined` on MySQL and MariaDB, which have none. */
export function joinWaker({ knex, family }: Database, logger: Logger): SharedWaker | undefined {
  if (family === 'mysql') return undefined;
  const key = knex.client as object;
  let shared = wakers.get(key);
  if (!shared) {
    // A database of its own, since the package that came first may be closed first.
    const database = new Database({ knex, loopConnections: 1 });
    const waker = family === 'postgres' ? listenWaker(database, { logger }) : dataVersionWaker(database);
    wakers.set(key, (shared = { waker, database, users: 0 }));
  }
  const joined = shared;
  joined.users += 1;
  return {
    waker: joined.waker,
    async leave() {
      joined.users -= 1;
      if (joined.users > 0) return;
      wakers.delete(key);
      await joined.waker.close();
      await joined.database.close();
    },
  };
}
