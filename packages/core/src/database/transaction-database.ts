import type { Knex } from 'knex';
import { InvalidArgumentError } from '../errors/errors.ts';
import { requireTransaction } from './after-commit.ts';
import { Database } from './database.ts';
import { type DatabaseDescription, describeWith } from './describe-database.ts';
import type { SqlRunner } from './sql-runner.ts';

/**
 * A {@link Database} whose every statement runs in one transaction of the caller's: its own transactions are savepoints, and nothing is there
 * once the caller rolls back. For tests that wrap each case in a transaction. Statements are not retried, since a conflict ends the whole
 * transaction.
 */
export class TransactionDatabase extends Database {
  readonly #trx: Knex.Transaction;

  /** @throws NotInTransactionError unless `trx` is an open transaction */
  constructor(parent: Database, trx: Knex.Transaction) {
    requireTransaction(trx, 'in(trx)');
    super({ knex: trx, schema: parent.schema, tablePrefix: parent.tablePrefix, loopConnections: 1 });
    this.clockOffsetMs = parent.clockOffsetMs;
    this.#trx = trx;
  }

  override async describe(): Promise<DatabaseDescription> {
    return this.use((sql) => describeWith(sql));
  }

  override rows<Row = Record<string, unknown>>(sql: string, params?: readonly unknown[]): Promise<Row[]> {
    return this.use((runner) => runner.rows<Row>(sql, params));
  }

  override run(sql: string, params?: readonly unknown[]): Promise<number> {
    return this.use((runner) => runner.run(sql, params));
  }

  override async use<T>(fn: (sql: SqlRunner) => Promise<T>): Promise<T> {
    return fn(await this.within(this.#trx, 'A statement'));
  }

  override transaction<T>(fn: (sql: SqlRunner) => Promise<T>): Promise<T> {
    return this.#trx.transaction(async (inner) => fn(await this.within(inner, 'A statement')));
  }

  override rawConnection(): Promise<never> {
    return Promise.reject(new InvalidArgumentError('A database inside a transaction has no other connection.'));
  }
}
