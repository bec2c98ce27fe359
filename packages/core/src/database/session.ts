import { givenSqlMode } from './given-sql-mode.ts';
import { postgresCorrections } from './postgres-session.ts';
import type { SqlRunner } from './sql-runner.ts';

/**
 * Settings of our own connections to MySQL and MariaDB, so that the server's defaults do not matter: each statement commits by itself, COMMIT
 * starts no new transaction, a statement waits for a lock for 5 s at most, an UPDATE needs no key, a SELECT has no row limit, and a text that is
 * too long for its column is an error. The time zone stays as the caller set it, and the mode that the connection had is kept: see
 * {@link givenSqlMode}.
 */
const mysqlSession =
  "autocommit = 1, completion_type = 'NO_CHAIN', innodb_lock_wait_timeout = 5, sql_safe_updates = 0, sql_select_limit = DEFAULT, sql_mode = 'STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION'";
/** MySQL alone: by default it caches the statistics of a table for a day. */
const mysqlStatistics = ', information_schema_stats_expiry = 0';

/** Gives a connection of our own the session settings that the statements rely on. `sql` runs on it, and knows its dialect. */
export async function prepareSession(connection: object, sql: SqlRunner): Promise<void> {
  switch (sql.dialect) {
    case 'mysql':
    case 'mariadb': {
      // A JSON column of an adopted table is read as text, as on the other databases.
      const { config } = connection as { config?: { jsonStrings?: boolean } };
      if (config) config.jsonStrings = true;
      // For every statement, not only for claims: at REPEATABLE READ a promotion blocks unrelated inserts until they time out.
      await sql.run('SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED');
      // In their order: the variable keeps the mode before ours.
      await sql.run(`SET ${givenSqlMode} = @@SESSION.sql_mode, SESSION ${mysqlSession}${sql.dialect === 'mysql' ? mysqlStatistics : ''}`);
      return;
    }
    case 'postgres':
      for (const correction of await postgresCorrections(sql)) await sql.run(correction);
      return;
    case 'sqlite':
  }
}
