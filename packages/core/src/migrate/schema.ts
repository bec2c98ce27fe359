import type { Database } from '../database/database.ts';
import type { SqlRunner } from '../database/sql-runner.ts';

/** One migration. Migrations only add tables, columns with defaults, and indexes, so that older processes continue to work. */
export interface Migration {
  /** For example `0001_create`. It sorts after the names of earlier migrations, and is never changed. */
  readonly name: string;
  /**
   * Returns the statements, in the database's dialect. Each must be safe to run again after a crash in between. `sql` reads the existing
   * tables, on the connection that holds the lock of the migration.
   */
  readonly statements: (database: Database, sql: SqlRunner) => readonly string[] | Promise<readonly string[]>;
}

/** The tables of one package. */
export interface Schema {
  /** For example `core`; its migrations are recorded in `holdfast_<name>_migrations`. */
  readonly name: string;
  readonly migrations: readonly Migration[];
}
