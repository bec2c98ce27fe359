import type { Database } from '../database/database.ts';
import type { SqlRunner } from '../database/sql-runner.ts';
import { isBusy } from '../database/transient.ts';
import { MigrationLockedError } from '../errors/errors.ts';
import { monotonicMs } from '../time/monotonic.ts';
import { wait } from '../time/wait.ts';

/**
 * Runs `fn` while no other process migrates the same tables.
 *
 * SQLite: one transaction, which holds the write lock. MySQL, MariaDB: `GET_LOCK`, on the connection of the statements. Postgres: an
 * advisory lock of a TRANSACTION, on a connection of its own. A lock of the session would stay on the server's connection when a pooler
 * (PgBouncer in transaction mode) hands that connection to another client, and every later migration would wait for it. The transaction is idle
 * meanwhile and has no snapshot, so CREATE INDEX CONCURRENTLY does not wait for it.
 *
 * @throws MigrationLockedError if another process holds the lock for longer than `timeoutMs`
 */
export async function withMigrationLock(database: Database, timeoutMs: number, fn: (sql: SqlRunner) => Promise<void>): Promise<void> {
  if (database.family === 'sqlite') return sqliteLock(database, timeoutMs, fn);
  const key = `holdfast-migrate-${database.schema ?? ''}-${database.tablePrefix}`;
  const statements = await database.rawConnection();
  try {
    if (database.family === 'postgres') await postgresLock(database, key, timeoutMs, statements.sql, fn);
    else await mysqlLock(key, timeoutMs, statements.sql, fn);
  } finally {
    await statements.close();
  }
}

async function sqliteLock(database: Database, timeoutMs: number, fn: (sql: SqlRunner) => Promise<void>): Promise<void> {
  await database.use(async (sql) => {
    try {
      await sql.run('BEGIN IMMEDIATE');
    } catch (error) {
      if (!isBusy(error)) throw error;
      throw locked(timeoutMs, 'Another process writes to the file', 'End that process', error);
    }
    try {
      await fn(sql);
    } catch (error) {
      await sql.run('ROLLBACK').catch(() => undefined);
      throw error;
    }
    await sql.run('COMMIT');
  });
}

async function mysqlLock(name: string, timeoutMs: number, sql: SqlRunner, fn: (sql: SqlRunner) => Promise<void>): Promise<void> {
  // Names of locks have at most 64 characters. The database's name is not part of it, as in earlier versions, which may run beside this one.
  const key = name.slice(0, 64);
  const deadline = monotonicMs() + timeoutMs;
  for (;;) {
    const leftS = Math.ceil(Math.min(10_000, Math.max(0, deadline - monotonicMs())) / 1_000);
    const [row] = await sql.rows<{ locked: unknown }>('SELECT GET_LOCK(?, ?) AS locked', [key, leftS]);
    if (Number(row?.locked) === 1) break;
    if (monotonicMs() < deadline) continue;
    const [holder] = await sql.rows<{ id: unknown }>('SELECT IS_USED_LOCK(?) AS id', [key]);
    throw locked(timeoutMs, `Connection ${holder?.id ?? '?'} holds the lock ${key}`, `Otherwise end it: KILL ${holder?.id ?? '…'}`);
  }
  // Closing the connection releases the lock.
  await fn(sql);
}

async function postgresLock(
  database: Database,
  key: string,
  timeoutMs: number,
  sql: SqlRunner,
  fn: (sql: SqlRunner) => Promise<void>,
): Promise<void> {
  const lock = await database.rawConnection();
  const deadline = monotonicMs() + timeoutMs;
  try {
    // Polls instead of waiting in the server. A statement that waits has a snapshot, and CREATE INDEX CONCURRENTLY waits for every
    // snapshot: if the holder of the lock is building an index, the two would deadlock.
    for (let pauseMs = 50; ; pauseMs = Math.min(1_000, pauseMs * 1.5)) {
      await lock.sql.run('BEGIN ISOLATION LEVEL READ COMMITTED');
      const [row] = await lock.sql.rows<{ locked: boolean }>('SELECT pg_try_advisory_xact_lock(hashtext(?)) AS locked', [key]);
      if (row?.locked) break;
      await lock.sql.run('ROLLBACK');
      if (monotonicMs() > deadline) throw await lockedByPostgres(lock.sql, key, timeoutMs);
      await wait(pauseMs);
    }
    // An index may take hours, and the transaction that holds the lock is idle meanwhile.
    await lock.sql.rows(
      "SELECT set_config(name, '0', true) FROM pg_settings WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout')",
    );
    const held = async (): Promise<void> => void (await lock.sql.rows('SELECT 1 AS held'));
    await fn({
      dialect: sql.dialect,
      rows: async <Row>(statement: string, params?: readonly unknown[]) => {
        await held();
        return sql.rows<Row>(statement, params);
      },
      run: async (statement, params) => {
        await held();
        return sql.run(statement, params);
      },
    });
    await lock.sql.run('COMMIT');
  } finally {
    await lock.close();
  }
}

async function lockedByPostgres(sql: SqlRunner, key: string, timeoutMs: number): Promise<MigrationLockedError> {
  const [holder] = await sql.rows<{ pid: number; application: string | null }>(
    `SELECT l.pid, a.application_name AS application FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
     WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND l."database" = (SELECT oid FROM pg_database WHERE datname = current_database())
     AND ((l.classid::bigint << 32) | l.objid::bigint) = hashtext(?)::bigint`,
    [key],
  );
  const who = holder ? `Session ${holder.pid} (${holder.application || 'without an application name'})` : 'Another session';
  return locked(
    timeoutMs,
    `${who} holds the advisory lock of ${key}`,
    `Otherwise end it: SELECT pg_terminate_backend(${holder?.pid ?? '…'}). A pooler may have kept it for a client that is gone`,
  );
}

function locked(timeoutMs: number, holder: string, remedy: string, cause?: unknown): MigrationLockedError {
  return new MigrationLockedError(
    `The migration waited for ${timeoutMs} ms, since another one runs. ${holder}. If it builds an index, wait for it, or raise lockTimeout. ${remedy}.`,
    cause,
  );
}
