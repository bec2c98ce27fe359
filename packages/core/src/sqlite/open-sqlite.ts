import knexFactory, { type Knex } from 'knex';
import { NodeSqliteClient } from './sqlite-client.ts';

/** Options of {@link openSqlite}. */
export interface SqliteOptions {
  /** `FULL` (default): commits survive a power failure. `NORMAL`: the last may be lost; single writes are about 6 times as fast. */
  readonly synchronous?: 'FULL' | 'NORMAL';
}

/**
 * Opens a knex over Node's built-in SQLite, with WAL and foreign keys. It has ONE connection, which the application and the loops share:
 * inside a transaction, use its `trx` for everything, since any other call waits until the transaction has ended.
 *
 * @param file path of the database file; a new one is readable by this user only (`:memory:` for one that dies with the process).
 */
export function openSqlite(file: string, options: SqliteOptions = {}): Knex {
  return knexFactory({
    client: NodeSqliteClient as unknown as typeof Knex.Client,
    connection: { filename: file, synchronous: options.synchronous ?? 'FULL' } as Knex.Sqlite3ConnectionConfig,
    useNullAsDefault: true,
    pool: { min: 1, max: 1, idleTimeoutMillis: 2 ** 31 - 1 },
  });
}
