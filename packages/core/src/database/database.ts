import type { Knex } from 'knex';
import pRetry from 'p-retry';
import { InvalidArgumentError, TransientDatabaseError } from '../errors/errors.ts';
import { shownValue } from '../errors/shown-value.ts';
import { type Duration, durationMs } from '../time/duration.ts';
import { requireTransaction, transactionConnection } from './after-commit.ts';
import { nowSql, timestampSql } from './clock.ts';
import { traceConnection } from './connection-hooks.ts';
import { Connections } from './connections.ts';
import { clientFamily, type DatabaseDescription, describeWith } from './describe-database.ts';
import type { Dialect } from './dialect.ts';
import { quoted } from './dialect-sql.ts';
import { discard } from './discard.ts';
import { isEnclosed } from './enclosing-transaction.ts';
import { createSqlRunner, type SqlRunner } from './sql-runner.ts';
import { isTransient } from './transient.ts';

/** Options of {@link Database}: the connection, the names of the tables, and limits. */
export interface DatabaseOptions {
  /** The service's own knex. Its pool serves the caller's transactions only (on SQLite: everything). */
  readonly knex: Knex;
  /** Postgres schema of the tables. Default: the first schema of the connection's `search_path`. */
  readonly schema?: string | undefined;
  /** Prefix of the name of every table, for example `'billing_'`. Default `''`. */
  readonly tablePrefix?: string | undefined;
  /**
   * Size of the loops' own pool. It is apart from the service's pool, so that a busy service can't starve a heartbeat. All packages over one
   * knex share it, and the largest size counts. A process without loops, which only submits, opens none of these connections on PostgreSQL.
   * Default 4.
   */
  readonly loopConnections?: number | undefined;
  /** How long a statement of Holdfast may take before its connection is closed and the call fails. Default 30 s. */
  readonly statementTimeout?: Duration | undefined;
}

/**
 * One database as Holdfast uses it: its dialect, its clock, a small pool for the loops, and transactions that run READ COMMITTED and are
 * retried after a conflict.
 */
export class Database {
  readonly knex: Knex;
  readonly family: 'postgres' | 'mysql' | 'sqlite';
  readonly schema: string | undefined;
  readonly tablePrefix: string;
  /** Added to the database's clock, in ms. 0 in production; tests set it. */
  clockOffsetMs = 0;
  readonly #connections: Connections;
  readonly #statementTimeoutMs: number;
  readonly #expanded = new Map<string, string>();
  #expandedAtMs = 0;
  #description: DatabaseDescription | undefined;

  constructor(options: DatabaseOptions) {
    if (typeof options?.knex !== 'function' || !('client' in options.knex)) {
      throw new InvalidArgumentError("knex is missing; pass the service's knex instance, as in { knex }.");
    }
    this.knex = options.knex;
    this.family = clientFamily(options.knex);
    this.schema = identifier('schema', options.schema);
    this.tablePrefix = identifier('tablePrefix', options.tablePrefix) ?? '';
    this.#statementTimeoutMs = durationMs(options.statementTimeout ?? '30s', 'statementTimeout');
    this.#connections = new Connections({
      knex: this.knex,
      family: this.family,
      loopConnections: options.loopConnections ?? 4,
      runner: (connection) => this.#described(connection),
    });
  }

  /** Describes the server. It is asked once, and the answer is kept. @throws UnsupportedDatabaseError, DatabaseUnavailableError */
  async describe(): Promise<DatabaseDescription> {
    return this.#description ?? this.use((sql) => this.#describe(sql));
  }

  /** Asks on the given connection. Sharing a query of another connection would also share its failure. */
  async #describe(sql: SqlRunner): Promise<DatabaseDescription> {
    return (this.#description ??= await describeWith(sql));
  }

  /**
   * The dialect. It is exact inside `use`, `transaction` and `within`. Before the first connection, MariaDB is reported as `mysql`.
   */
  get dialect(): Dialect {
    return this.#description?.dialect ?? this.family;
  }

  /**
   * Bytes of the values that one statement should carry at most; see `statementParts`. It is exact inside `use`, `transaction` and `within`.
   * Half of what the server accepts, since MySQL's literals of bytes, and those of texts with a backslash, are twice as long as their values.
   */
  get statementBytes(): number {
    return Math.min(
      usualStatementBytes,
      Math.max(1, Math.floor((this.#description?.maxStatementBytes ?? Number.MAX_SAFE_INTEGER) / 2) - 4_096),
    );
  }

  /** The quoted name of a Holdfast table, with prefix and schema. */
  table(name: string): string {
    const own = quoted(this, `${this.tablePrefix}${name}`);
    return this.schema !== undefined && this.family === 'postgres' ? `${quoted(this, this.schema)}.${own}` : own;
  }

  /** SQL that reads a 64-bit column as text, so that no driver rounds it. */
  text(column: string): string {
    return `CAST(${column} AS ${this.family === 'mysql' ? 'CHAR' : 'TEXT'})`;
  }

  /**
   * An index hint. Put it after the name of a table whose rows a statement changes or locks by their ids. Without it, MySQL and MariaDB read
   * the whole table if the ids are a large part of it, and wait for every locked row on the way. Empty on the other databases.
   */
  get primaryKeyHint(): string {
    return this.family === 'mysql' ? ' FORCE INDEX (PRIMARY)' : '';
  }

  /** The head of a statement that deletes rows by their ids; see `primaryKeyHint`. `table` is a name as `table()` returns it. */
  deleteByPrimaryKey(table: string): string {
    // MySQL accepts an index hint in this form of DELETE only.
    return this.family === 'mysql' ? `DELETE ${table} FROM ${table}${this.primaryKeyHint}` : `DELETE FROM ${table}`;
  }

  /** Replaces `{now}` and `{timestamp}` in a statement by the SQL for the database's clock. */
  sql(statement: string): string {
    if (this.#expandedAtMs !== this.clockOffsetMs) {
      this.#expanded.clear();
      this.#expandedAtMs = this.clockOffsetMs;
    }
    let text = this.#expanded.get(statement);
    if (text === undefined) {
      text = statement.replaceAll('{now}', nowSql(this.family, this.clockOffsetMs)).replaceAll('{timestamp}', timestampSql(this.family));
      if (this.#expanded.size > 2000) this.#expanded.clear();
      this.#expanded.set(statement, text);
    }
    return text;
  }

  /** Milliseconds since 1970 by the database's clock. */
  async now(): Promise<number> {
    const [row] = await this.rows<{ now: string | number }>('SELECT {now} AS now');
    return Number(row?.now);
  }

  /** Runs one statement on the loops' pool, in a transaction of its own. Returns its rows. */
  rows<Row = Record<string, unknown>>(sql: string, params?: readonly unknown[]): Promise<Row[]> {
    return retryConflicts(() => this.use((runner) => runner.rows<Row>(sql, params)));
  }

  /** Runs one statement on the loops' pool, in a transaction of its own. Returns the number of rows that it changed. */
  run(sql: string, params?: readonly unknown[]): Promise<number> {
    return retryConflicts(() => this.use((runner) => runner.run(sql, params)));
  }

  /** Borrows a connection of the loops' pool. Each statement of `fn` commits by itself, and is not retried. */
  async use<T>(fn: (sql: SqlRunner) => Promise<T>): Promise<T> {
    const taken = await this.#connections.acquire();
    try {
      return await fn(this.#expanding(this.#wrap(taken.connection)));
    } finally {
      await this.#connections.release(taken);
    }
  }

  /**
   * Runs a transaction on the loops' pool: READ COMMITTED (IMMEDIATE on SQLite). It runs again after a conflict (deadlock, serialization
   * failure, lock time-out, busy file), so `fn` must have no effects outside the database.
   */
  async transaction<T>(fn: (sql: SqlRunner) => Promise<T>): Promise<T> {
    return retryConflicts(() => this.#transactionOnce(fn));
  }

  /**
   * A runner of statements in the caller's transaction. It does not retry.
   * @throws TransientDatabaseError after a conflict: the caller must run the whole transaction again
   */
  async within(trx: Knex.Transaction, what = 'This call'): Promise<SqlRunner> {
    requireTransaction(trx, what);
    const connection = await transactionConnection(trx);
    traceConnection(connection).entered();
    const runner = await this.#described(connection);
    const guard = async <T>(promise: Promise<T>): Promise<T> => {
      try {
        return await promise;
      } catch (error) {
        if (!isTransient(error)) throw error;
        throw new TransientDatabaseError(
          `The transaction conflicted with another: ${(error as Error).message}. Run it again from its start.`,
          error,
        );
      }
    };
    const { insert } = runner;
    return {
      dialect: this.dialect,
      ofCaller: true,
      rows: <Row>(sql: string, params?: readonly unknown[]) => guard(runner.rows<Row>(this.sql(sql), params)),
      run: (sql, params) => guard(runner.run(this.sql(sql), params)),
      ...(insert && { insert: (sql: string, params?: readonly unknown[]) => guard(insert(this.sql(sql), params)) }),
    };
  }

  /**
   * As {@link within}, for statements that belong together: those of another call of it in the same transaction, begun at the same time as with
   * `Promise.all`, follow when `fn` has ended.
   */
  async inTurn<T>(trx: Knex.Transaction, what: string, fn: (sql: SqlRunner) => Promise<T>): Promise<T> {
    requireTransaction(trx, what);
    const connection = await transactionConnection(trx);
    const own = (turns.get(connection) ?? Promise.resolve()).then(async () => fn(await this.within(trx, what)));
    turns.set(
      connection,
      own.catch(() => undefined),
    );
    return own;
  }

  /**
   * Tells that loops run over this database: from now on, statements outside of the caller's transactions have connections of their own. Call
   * it when a worker starts. Returns the function that ends it.
   */
  runLoops(): () => void {
    return this.#connections.runLoops();
  }

  /**
   * Refuses a call that begins a transaction of its own within the callback of an open transaction of a SQLite knex: the knex has one
   * connection, so the call would wait for the transaction, and the transaction for the call. Servers have other connections.
   * @throws InvalidArgumentError
   */
  refuseEnclosed(call: string): void {
    if (this.family !== 'sqlite' || !isEnclosed((this.knex.client as { config: object }).config)) return;
    throw new InvalidArgumentError(
      `${call} was called inside an open transaction of this SQLite knex, which has one connection: they would wait for each other for ever. Use in(trx), or call it after the transaction.`,
    );
  }

  /** Waits for the statements under way, and closes the loops' pool unless others use it. The service's own knex stays open. */
  async close(): Promise<void> {
    await this.#connections.close();
  }

  /** Opens a driver connection outside of every pool, with the loops' session settings. For LISTEN and for session locks. */
  async rawConnection(): Promise<{ readonly sql: SqlRunner; readonly connection: unknown; close(): Promise<void> }> {
    const raw = await this.#connections.open();
    return { ...raw, sql: this.#wrap(raw.connection) };
  }

  /** A runner on the connection, with the exact dialect: the first call also finds out whether the server is MySQL or MariaDB. */
  async #described(connection: object): Promise<SqlRunner> {
    const sql = this.#wrap(connection);
    if (this.family !== 'mysql') return sql;
    await this.#describe(sql);
    return this.#wrap(connection);
  }

  async #transactionOnce<T>(fn: (sql: SqlRunner) => Promise<T>): Promise<T> {
    const taken = await this.#connections.acquire();
    const { connection } = taken;
    const raw = this.#wrap(connection);
    const trace = traceConnection(connection);
    try {
      await raw.run(beginSql[this.family]);
      try {
        const result = await fn(this.#expanding(raw));
        await raw.run('COMMIT');
        if (trace.outcome !== 'committed') throw new TransientDatabaseError('The server answered COMMIT with ROLLBACK.', undefined);
        return result;
      } catch (error) {
        if (trace.outcome === 'open') await raw.run('ROLLBACK').catch((cause) => discard(connection, cause));
        throw error;
      }
    } finally {
      await this.#connections.release(taken);
    }
  }

  #expanding(raw: SqlRunner): SqlRunner {
    const { insert } = raw;
    return {
      dialect: raw.dialect,
      rows: (sql, params) => raw.rows(this.sql(sql), params),
      run: (sql, params) => raw.run(this.sql(sql), params),
      ...(insert && { insert: (sql: string, params?: readonly unknown[]) => insert(this.sql(sql), params) }),
    };
  }

  #wrap(connection: object): SqlRunner {
    // The sql_mode is known only on connections with our session settings.
    const backslash = this.#connections.prepared(connection) ? 'escapes' : 'unknown';
    return createSqlRunner(this.dialect, connection, {
      statementTimeoutMs: this.#statementTimeoutMs,
      backslash,
      maxStatementBytes: () => this.#description?.maxStatementBytes,
    });
  }
}

/** The end of the last call of `inTurn`, by connection. */
const turns = new WeakMap<object, Promise<unknown>>();

/** Opens a {@link Database} over the service's knex. */
export function openDatabase(options: DatabaseOptions): Database {
  return new Database(options);
}

/**
 * Describes the server that a knex connects to: dialect, version, capabilities, and warnings.
 * @throws UnsupportedDatabaseError, DatabaseUnavailableError
 */
export async function describeDatabase(knex: Knex): Promise<DatabaseDescription> {
  const database = new Database({ knex, loopConnections: 1 });
  try {
    return await database.describe();
  } finally {
    await database.close();
  }
}

/** Runs it again after a conflict, which leaves nothing behind. Without a conflict it costs nothing. */
async function retryConflicts<T>(run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    if (!isTransient(error)) throw error;
  }
  return pRetry(run, { retries: 8, minTimeout: 5, maxTimeout: 200, randomize: true, shouldRetry: ({ error }) => isTransient(error) });
}

/** More in one statement saves no time. */
const usualStatementBytes = 2 * 2 ** 20;

const beginSql = {
  postgres: 'BEGIN ISOLATION LEVEL READ COMMITTED',
  mysql: 'BEGIN',
  sqlite: 'BEGIN IMMEDIATE',
} as const;

function identifier(what: string, value: string | undefined): string | undefined {
  if (value !== undefined && !/^[A-Za-z_][A-Za-z0-9_]*$|^$/.test(value)) {
    throw new InvalidArgumentError(`${what} is ${shownValue(value)}; use letters, digits and underscores, not starting with a digit.`);
  }
  return value === '' ? undefined : value;
}
