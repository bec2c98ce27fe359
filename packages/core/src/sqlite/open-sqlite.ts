import knexFactory, { type Knex } from 'knex';
import { NodeSqliteClient } from './sqlite-client.ts';

/** How SQLite keeps what is written. */
export interface SqliteOptions {
  /** `FULL` (default) survives a power failure; `NORMAL` may lose the last transactions then, and is about 6 times as fast for single writes. */
  readonly synchronous?: 'FULL' | 'NORMAL';
}

/**
 * A knex over Node's built-in SQLite, with WAL and foreign keys. It has ONE connection, shared by the application and
 * the loops: inside a transaction, use its `trx` for everything, since any other call waits for the transaction to end.
 *
 * @param file path of the database file (`:memory:` for one that dies with the process).
 */
export function openSqlite(file: string, options: SqliteOptions = {}): Knex {
  return knexFactory({
    client: NodeSqliteClient as unknown as typeof Knex.Client,
    connection: { filename: file, synchronous: options.synchronous ?? 'FULL' } as Knex.Sqlite3ConnectionConfig,
    useNullAsDefault: true,
    pool: { min: 1, max: 1, idleTimeoutMillis: 2 ** 31 - 1 },
  });
}
