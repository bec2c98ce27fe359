import { DatabaseUnavailableError, InvalidArgumentError } from '../errors/errors.ts';
import { startTimer } from '../time/timer.ts';
import type { Dialect } from './dialect.ts';
import { discard } from './discard.ts';
import { type Backslash, mysqlText } from './mysql-text.ts';
import { retryBusy } from './retry-busy.ts';
import { isReadOnly } from './transient.ts';

/**
 * Runs SQL statements on one driver connection, without knex's builder (which costs 3x on SQLite inserts, 12x on SQLite selects, and 13 to
 * 28% on single Postgres statements).
 *
 * Parameters are `?` in every dialect. The statements cast 64-bit columns to text, so that no driver setting can round them.
 */
export interface SqlRunner {
  readonly dialect: Dialect;
  /** True in a transaction of the caller's: at REPEATABLE READ, MySQL's default, what it reads without a lock may be older than now. */
  readonly ofCaller?: true;
  /** Runs a statement and returns its rows. */
  rows<Row = Record<string, unknown>>(sql: string, params?: readonly unknown[]): Promise<Row[]>;
  /** Runs a statement and returns the number of rows that it changed. */
  run(sql: string, params?: readonly unknown[]): Promise<number>;
  /**
   * MySQL, MariaDB: runs an INSERT and returns the id that the database gave its first row, as text. It comes with the reply: a LAST_INSERT_ID()
   * that is asked for later may be that of another statement of the same transaction. Absent elsewhere, where RETURNING tells it.
   */
  insert?(sql: string, params?: readonly unknown[]): Promise<string>;
}

/** The part of `pg`'s client that is used. */
export interface PgConnection {
  query(config: { text: string; values: unknown[] }, done: (error: Error | null, result: PgResult) => void): void;
  connection?: { stream?: { destroy(): void } };
}
interface PgResult {
  rows: Record<string, unknown>[];
  rowCount: number | null;
  command: string;
}

/** The part of `mysql2`'s connection that is used. */
export interface MysqlConnection {
  query(options: { sql: string; rowsAsArray: false; nestTables: false }, done: (error: Error | null, result: unknown) => void): void;
  escape(value: Date): string;
  destroy?(): void;
}

/** The part of `SqliteConnection` (subpath `./sqlite`) that is used. */
export interface SqliteRawConnection {
  all(sql: string, params: readonly unknown[]): Record<string, unknown>[];
  run(sql: string, params: readonly unknown[]): { changes: number | bigint };
}

/** Limits of a {@link SqlRunner}, and how its connection reads texts. */
export interface SqlRunnerOptions {
  /** How long a statement may take before its connection is closed, in ms. */
  readonly statementTimeoutMs: number;
  /** MySQL, MariaDB: how the connection reads a backslash in a text. Default `unknown`, which is safe in every `sql_mode`. */
  readonly backslash?: Backslash;
  /** MySQL, MariaDB: the bytes that the server accepts in one packet, once they are known. */
  readonly maxStatementBytes?: () => number | undefined;
}

/** Makes a runner on a driver connection of knex's pool. */
export function createSqlRunner(dialect: Dialect, connection: unknown, options: SqlRunnerOptions): SqlRunner {
  switch (dialect) {
    case 'postgres':
      return postgresRunner(connection as PgConnection, options);
    case 'sqlite':
      return sqliteRunner(connection as SqliteRawConnection, options);
    default:
      return mysqlRunner(dialect, connection as MysqlConnection, options);
  }
}

const numbered = new Map<string, string>();

/** Replaces each `?` by `$1`, `$2`, …; the statements contain no other question mark. */
export function numberParameters(sql: string): string {
  let text = numbered.get(sql);
  if (text === undefined) {
    let n = 0;
    text = sql.replace(/\?/g, () => `$${++n}`);
    if (numbered.size > 2000) numbered.clear();
    numbered.set(sql, text);
  }
  return text;
}

function postgresRunner(connection: PgConnection, options: SqlRunnerOptions): SqlRunner {
  const query = (sql: string, params: readonly unknown[]): Promise<PgResult> =>
    bounded(
      connection,
      options,
      sql,
      (done) => connection.query({ text: numberParameters(sql), values: params as unknown[] }, done),
      () => connection.connection?.stream?.destroy(),
    );
  return {
    dialect: 'postgres',
    rows: async <Row>(sql: string, params: readonly unknown[] = []) => (await query(sql, params)).rows as Row[],
    run: async (sql, params = []) => (await query(sql, params)).rowCount ?? 0,
  };
}

function mysqlRunner(dialect: Dialect, connection: MysqlConnection, options: SqlRunnerOptions): SqlRunner {
  const query = (sql: string, params: readonly unknown[]): Promise<unknown> =>
    bounded(
      connection,
      options,
      sql,
      (done) => {
        const text = mysqlText(sql, params, options.backslash ?? 'unknown', (time) => connection.escape(time));
        requireFits(text, options.maxStatementBytes?.());
        connection.query({ sql: text, rowsAsArray: false, nestTables: false }, done);
      },
      () => connection.destroy?.(),
    );
  return {
    dialect,
    rows: async <Row>(sql: string, params: readonly unknown[] = []) => {
      const result = await query(sql, params);
      return (Array.isArray(result) ? result : []) as Row[];
    },
    run: async (sql, params = []) => ((await query(sql, params)) as { affectedRows?: number }).affectedRows ?? 0,
    insert: async (sql, params = []) => {
      const { insertId } = (await query(sql, params)) as { insertId?: number | string };
      if (typeof insertId === 'string' || Number.isSafeInteger(insertId)) return String(insertId);
      // The driver rounds it.
      const [row] = (await query('SELECT CAST(LAST_INSERT_ID() AS CHAR) AS id', [])) as { id: string }[];
      return String(row?.id);
    },
  };
}

/** Refuses a statement for which the server would end the connection without a word about the cause. */
function requireFits(text: string, most: number | undefined): void {
  // A character has three bytes at most, so most statements need no count. The packet has one byte before the text.
  if (most === undefined || text.length * 3 < most) return;
  const bytes = Buffer.byteLength(text) + 1;
  if (bytes > most)
    throw new InvalidArgumentError(
      `A statement has ${bytes} bytes, and the server accepts ${most} (max_allowed_packet); nothing was sent. Raise max_allowed_packet of the server, or store large data elsewhere and pass its key. Statement: ${text.slice(0, 120)}`,
    );
}

/**
 * Limits the time of a statement. After a time-out the outcome is unknown: the statement may have run. The connection is closed, so that a
 * late reply can't be taken for the reply to another statement.
 */
function bounded<T>(
  connection: object,
  options: SqlRunnerOptions,
  sql: string,
  send: (done: (error: Error | null, result: T) => void) => void,
  destroy: () => void,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = startTimer(options.statementTimeoutMs, () => {
      const error = new DatabaseUnavailableError(
        `The database did not answer within ${options.statementTimeoutMs} ms; whether the statement ran is unknown. Its connection was closed. Statement: ${sql.slice(0, 120)}`,
      );
      discard(connection, error);
      destroy();
      reject(error);
    });
    try {
      send((error, result) => {
        timer.clear();
        if (!error) return resolve(result);
        if (isReadOnly(error)) discard(connection, error);
        reject(error);
      });
    } catch (error) {
      // A value could not be encoded: nothing was sent, and the connection stays usable.
      timer.clear();
      reject(error);
    }
  });
}

function sqliteRunner(connection: SqliteRawConnection, { statementTimeoutMs }: SqlRunnerOptions): SqlRunner {
  return {
    dialect: 'sqlite',
    rows: <Row>(sql: string, params: readonly unknown[] = []) => retryBusy(() => connection.all(sql, params) as Row[], statementTimeoutMs),
    run: (sql, params = []) => retryBusy(() => Number(connection.run(sql, params).changes), statementTimeoutMs),
  };
}
