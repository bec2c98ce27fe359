import type { Database } from '../database/database.ts';
import type { Logger } from '../observe/logger.ts';
import { wait } from '../time/wait.ts';

/** The first line about a wait comes after this time, in ms; further ones, after this time each. */
const firstMs = 5_000;
const nextMs = 60_000;

/** A session for which an index that is built CONCURRENTLY waits. `query` is its last statement. */
interface Holder {
  readonly pid: number;
  readonly state: string | null;
  readonly application: string | null;
  readonly seconds: number | null;
  readonly query: string | null;
}

/**
 * Runs a statement. While it builds an index CONCURRENTLY, which waits for every transaction of the database that may still see the table as it
 * was, the sessions for which it waits are logged.
 */
export async function reportIndexWait(database: Database, logger: Logger, statement: string, run: () => Promise<unknown>): Promise<void> {
  if (database.family !== 'postgres' || !/^CREATE (UNIQUE )?INDEX CONCURRENTLY/.test(statement)) {
    await run();
    return;
  }
  const done = new AbortController();
  void watch(database, logger, statement, done.signal).catch(() => undefined);
  try {
    await run();
  } finally {
    done.abort();
  }
}

async function watch(database: Database, logger: Logger, statement: string, signal: AbortSignal): Promise<void> {
  for (let pauseMs = firstMs; ; pauseMs = nextMs) {
    await wait(pauseMs, signal);
    try {
      const holders = await readHolders(database, statement);
      if (signal.aborted) return;
      if (holders.length > 0)
        logger.warn(
          { statement, holders },
          `an index is built CONCURRENTLY, and waits until older transactions of this database end. If one was forgotten, end it: ${holders.map(({ pid }) => `SELECT pg_terminate_backend(${pid})`).join('; ')}. Otherwise wait: nothing is blocked meanwhile`,
        );
      else logger.info({ statement }, 'an index is being built; writers are not blocked');
    } catch (err) {
      logger.debug({ err }, 'it could not be read for which sessions an index waits');
    }
  }
}

function readHolders(database: Database, statement: string): Promise<readonly Holder[]> {
  return database.rows<Holder>(
    `SELECT DISTINCT b.pid, b.state, b.application_name AS application, extract(epoch FROM now() - b.xact_start)::int AS seconds, left(b.query, 200) AS query
     FROM pg_stat_activity a CROSS JOIN LATERAL unnest(pg_blocking_pids(a.pid)) AS w(pid) JOIN pg_stat_activity b ON b.pid = w.pid
     WHERE a.datname = current_database() AND a.state = 'active' AND a.pid <> pg_backend_pid() AND position(? IN a.query) = 1`,
    [statement.slice(0, 500)],
  );
}
