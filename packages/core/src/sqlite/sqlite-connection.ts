import { closeSync, openSync } from 'node:fs';
import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite';
import { isBusy } from '../database/transient.ts';

const maxPrepared = 500;

/** Makes a new file readable by this user only. SQLite gives its journal the mode of the file. A file that exists keeps its mode. */
function makePrivate(file: string): void {
  if (file === '' || file === ':memory:' || file.startsWith('file:')) return;
  try {
    closeSync(openSync(file, 'ax', 0o600));
  } catch {
    // It exists, or can't be made: SQLite says why.
  }
}

/** One `node:sqlite` connection with its prepared statements, in the shape that knex's client and the kernel need. */
export class SqliteConnection {
  readonly #database: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();
  __knex__disposed?: unknown;

  constructor(file: string, synchronous: 'FULL' | 'NORMAL') {
    makePrivate(file);
    this.#database = new DatabaseSync(file, { timeout: 0, enableForeignKeyConstraints: true });
    this.#database.exec(`PRAGMA busy_timeout = 0; PRAGMA foreign_keys = ON; PRAGMA synchronous = ${synchronous};`);
  }

  /** Runs a statement. Every statement passes through this method, so that the transaction trace sees all of them. */
  execSync(
    sql: string,
    params: readonly unknown[],
    wantRows: boolean,
  ): Record<string, unknown>[] | { changes: number | bigint; lastInsertRowid: number | bigint } {
    try {
      const statement = this.#prepare(sql);
      const values = params.map(sqliteValue);
      return wantRows ? (statement.all(...values) as Record<string, unknown>[]) : statement.run(...values);
    } catch (error) {
      // A COMMIT that finds the file busy is tried again.
      if (!isBusy(error)) this.endFailedCommit(sql);
      throw error;
    }
  }

  /**
   * Rolls back if `sql` is a COMMIT that has failed. A COMMIT that violates a deferred foreign key leaves the transaction open: the next one
   * could not begin on this connection, and plain statements would join the failed one.
   */
  endFailedCommit(sql: string): void {
    if (this.#database.isTransaction && /^\s*(COMMIT|END)\b/i.test(sql)) this.#database.exec('ROLLBACK');
  }

  /** False also after an error at which SQLite rolled the transaction back on its own. */
  get isTransaction(): boolean {
    return this.#database.isTransaction;
  }

  all(sql: string, params: readonly unknown[]): Record<string, unknown>[] {
    return this.execSync(sql, params, true) as Record<string, unknown>[];
  }

  run(sql: string, params: readonly unknown[]): { changes: number | bigint; lastInsertRowid: number | bigint } {
    return this.execSync(sql, params, false) as { changes: number | bigint; lastInsertRowid: number | bigint };
  }

  /** Returns whether the statement returns rows. */
  returnsRows(sql: string): boolean {
    return this.#prepare(sql).columns().length > 0;
  }

  close(): void {
    this.#statements.clear();
    if (this.#database.isOpen) this.#database.close();
  }

  #prepare(sql: string): StatementSync {
    const known = this.#statements.get(sql);
    if (known) return known;
    const statement = this.#database.prepare(sql);
    if (this.#statements.size >= maxPrepared) {
      const oldest = this.#statements.keys().next().value;
      if (oldest !== undefined) this.#statements.delete(oldest);
    }
    this.#statements.set(sql, statement);
    return statement;
  }
}

function sqliteValue(value: unknown): SQLInputValue {
  if (value === undefined) return null;
  if (typeof value === 'boolean') return value ? 1 : 0;
  if (value instanceof Date) return value.getTime();
  return value as SQLInputValue;
}
