import type { Database } from '../database/database.ts';
import type { SqlRunner } from '../database/sql-runner.ts';

/** One step. Steps only add: tables, columns with defaults, indexes; old processes go on beside it. */
export interface Migration {
  /** Sorts after those before it: `0001_create`. Never renamed. */
  readonly name: string;
  /**
   * The statements, in the database's dialect. Each must be safe to run again after a crash in between. `look` reads
   * what is there, on the connection that holds the migrators' lock.
   */
  readonly statements: (database: Database, look: SqlRunner) => readonly string[] | Promise<readonly string[]>;
}

/** The tables of one package. */
export interface Schema {
  /** For example `core`; its migrations are recorded in `holdfast_<name>_migrations`. */
  readonly name: string;
  readonly migrations: readonly Migration[];
}
