import { createRequire } from 'node:module';
import type { Knex } from 'knex';
import { enclose } from '../database/enclosing-transaction.ts';
import { retryBusy } from '../database/retry-busy.ts';
import { SqliteConnection } from './sqlite-connection.ts';

const require = createRequire(import.meta.url);
// knex does not export its dialects. They are CommonJS files in its package.
const BaseClient = require('knex/lib/dialects/sqlite3/index.js') as ClientConstructor;
const BaseTransaction = require('knex/lib/dialects/sqlite3/execution/sqlite-transaction.js') as TransactionConstructor;

// biome-ignore lint/suspicious/noExplicitAny: knex's client classes have no published types
type ClientConstructor = new (config: Knex.Config) => any;
// biome-ignore lint/suspicious/noExplicitAny: as above
type TransactionConstructor = new (...args: any[]) => any;

/** How long a statement waits for another process's write lock, in ms. */
const busyLimitMs = 30_000;

interface QueryObject {
  sql: string;
  bindings?: unknown[];
  method?: string;
  response?: unknown;
  context?: { lastID: number | bigint; changes: number | bigint };
}

/** Takes the write lock at BEGIN. A deferred transaction that reads and then writes fails if another process has written in between. */
class ImmediateTransaction extends BaseTransaction {
  begin(connection: unknown): Promise<unknown> {
    return this['query'](connection, 'BEGIN IMMEDIATE;');
  }
}

/** knex's own sqlite3 dialect over Node's built-in driver. */
export class NodeSqliteClient extends BaseClient {
  _driver(): object {
    return {};
  }

  /** A knex has one connection, so a call that needs another one within the callback would wait for ever: see `Database.refuseEnclosed`. */
  transaction(container: unknown, ...args: unknown[]): unknown {
    const config = this['config'] as object;
    const enclosed = typeof container === 'function' ? (trx: unknown): unknown => enclose(config, () => container(trx)) : container;
    return new ImmediateTransaction(this, enclosed, ...args);
  }

  async acquireRawConnection(): Promise<SqliteConnection> {
    const { filename, synchronous } = this['connectionSettings'] as { filename: string; synchronous: 'FULL' | 'NORMAL' };
    const connection = new SqliteConnection(filename, synchronous);
    // The change to WAL needs exclusive access to the file, and another process may be changing it, too.
    await retryBusy(() => connection.all('PRAGMA journal_mode = WAL', []), busyLimitMs);
    return connection;
  }

  async destroyRawConnection(connection: SqliteConnection): Promise<void> {
    connection.close();
  }

  /** Waits for another process's write lock without blocking the event loop. */
  async _query(connection: SqliteConnection, query: QueryObject): Promise<QueryObject> {
    if (!query.sql) throw new Error('The query is empty');
    const run = (): void => {
      const bindings = query.bindings ?? [];
      if (connection.returnsRows(query.sql)) {
        query.response = connection.all(query.sql, bindings);
      } else {
        const result = connection.run(query.sql, bindings);
        query.response = result;
        query.context = { lastID: result.lastInsertRowid, changes: Number(result.changes) };
      }
    };
    try {
      await retryBusy(run, busyLimitMs);
    } catch (error) {
      connection.endFailedCommit(query.sql);
      throw error;
    }
    return query;
  }
}

Object.assign(NodeSqliteClient.prototype, { driverName: 'node:sqlite', dialect: 'sqlite3' });
