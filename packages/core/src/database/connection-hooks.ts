import { TransactionDoomedError } from '../errors/errors.ts';
import { callListener } from '../observe/call-listener.ts';
import { guardLogger } from '../observe/guard-logger.ts';
import { discard } from './discard.ts';
import { isBusy, isReadOnly } from './transient.ts';

/**
 * The state of the transaction that is open on one driver connection, kept from the statements that pass through the connection. knex does
 * not know it: its `executionPromise` also resolves after the rollback of a `knex.transaction()` handle, at RELEASE SAVEPOINT of a nested
 * transaction, and when Postgres answers COMMIT with ROLLBACK after a swallowed error.
 */
export class TransactionTrace {
  #hooks: (() => void)[] = [];
  #savepoints: { readonly name: string; readonly hooks: number }[] = [];
  /** The error at which the database rolled the transaction back on its own (MySQL 1213; SQLite: a full disk, RAISE(ROLLBACK)), if it did. */
  doomedBy: Error | undefined;
  /** End of the last transaction on this connection, by the reply of the server. */
  outcome: 'open' | 'committed' | 'rolled back' = 'open';
  #inTransaction = false;

  /** Call it when a transaction is open whose BEGIN came before this trace. */
  entered(): void {
    this.#inTransaction = true;
  }

  add(hook: () => void): void {
    this.#hooks.push(hook);
  }

  /** Call it when a statement has succeeded. `command` is the command tag of Postgres. */
  succeeded(sql: string, command: string | undefined): void {
    const head = firstWord(sql);
    if (head === 'BEGIN' || head === 'START') {
      this.#reset('open');
      this.#inTransaction = true;
    } else if (head === 'COMMIT') {
      const hooks = this.#hooks;
      const committed = (command === undefined || command === 'COMMIT') && this.doomedBy === undefined;
      this.#reset(committed ? 'committed' : 'rolled back');
      if (committed) for (const hook of hooks) queueMicrotask(() => callListener(hook, hookFailed));
    } else if (head === 'ROLLBACK') {
      const savepoint = /^\s*ROLLBACK\s+TO\s+(?:SAVEPOINT\s+)?(\w+)/i.exec(sql)?.[1];
      if (savepoint === undefined) this.#reset('rolled back');
      else this.#unwind(savepoint);
    } else if (head === 'SAVEPOINT') {
      const name = /^\s*SAVEPOINT\s+(\w+)/i.exec(sql)?.[1] ?? '';
      this.#savepoints.push({ name, hooks: this.#hooks.length });
    }
  }

  /** Call it when a statement has failed. `ended`: SQLite reports that no transaction is open any more. */
  failed(sql: string, error: Error, ended = false): void {
    // The statement is tried again.
    if (isBusy(error) && !ended) return;
    // Outside of a transaction a deadlock fails one statement, and does not affect later ones.
    if (this.#inTransaction && (ended || (error as { errno?: unknown }).errno === 1213)) this.doomedBy ??= error;
    if (firstWord(sql) === 'COMMIT') this.#reset('rolled back');
  }

  /**
   * The error for a statement after the database rolled the transaction back on its own, or `undefined`. MariaDB and MySQL do so at a
   * deadlock, SQLite at a full disk or `RAISE(ROLLBACK)`. Each later statement would be committed by itself. So only ROLLBACK may follow.
   */
  refuse(sql: string): TransactionDoomedError | undefined {
    if (this.doomedBy === undefined || firstWord(sql) === 'ROLLBACK') return undefined;
    return new TransactionDoomedError(
      `The database rolled this transaction back on its own at an error (${this.doomedBy.message}); what it did before is gone, and what follows would be committed one by one. Let the error through and run the whole transaction again.`,
      this.doomedBy,
    );
  }

  #unwind(savepoint: string): void {
    const at = this.#savepoints.findLastIndex((entry) => entry.name.toLowerCase() === savepoint.toLowerCase());
    if (at < 0) return;
    this.#hooks.length = this.#savepoints[at]?.hooks ?? 0;
    this.#savepoints.length = at + 1;
  }

  #reset(outcome: 'open' | 'committed' | 'rolled back'): void {
    this.#hooks = [];
    this.#savepoints = [];
    this.doomedBy = undefined;
    this.#inTransaction = false;
    this.outcome = outcome;
  }
}

/** A hook belongs to no package with a logger of its own, and the transaction has been committed. */
function hookFailed(error: unknown): void {
  guardLogger().error({ err: error }, 'a function that was to run after a commit failed; the commit stands');
}

function firstWord(sql: string): string {
  // The statements that matter begin with B, C, R, S or white space; the first letter rules the others out cheaply.
  const c = sql.charCodeAt(0) | 0x20;
  if (c !== 98 && c !== 99 && c !== 114 && c !== 115 && c > 32) return '';
  return /^\s*(\w+)/.exec(sql)?.[1]?.toUpperCase() ?? '';
}

const traces = new WeakMap<object, TransactionTrace>();

/** Traces the transactions of a driver connection from now on. Returns the trace; for the same connection, the same one. */
export function traceConnection(connection: object): TransactionTrace {
  const known = traces.get(connection);
  if (known) return known;
  const trace = new TransactionTrace();
  traces.set(connection, trace);
  wrapQuery(connection as { query?: AnyFunction; execSync?: AnyFunction }, trace);
  return trace;
}

// biome-ignore lint/suspicious/noExplicitAny: the drivers' query functions take several shapes, which are passed through
type AnyFunction = (...args: any[]) => any;

function wrapQuery(connection: { query?: AnyFunction; execSync?: AnyFunction }, trace: TransactionTrace): void {
  if (connection.execSync) {
    wrapSync(connection as { execSync: AnyFunction }, trace);
    return;
  }
  const original = connection.query;
  if (!original) return;
  connection.query = function (this: unknown, ...args: unknown[]) {
    const config = args[0] as string | { text?: string; sql?: string };
    const sql = typeof config === 'string' ? config : (config?.text ?? config?.sql ?? '');
    const done = args.at(-1);
    const refusal = trace.refuse(sql);
    const failed = (error: Error): void => {
      trace.failed(sql, error);
      if (isReadOnly(error)) discard(connection, error);
      // MySQL and MariaDB (they have error numbers) keep the transaction open when a COMMIT is refused, as after a switch to read-only. Its
      // locks would stay. Postgres has ended it.
      if (firstWord(sql) === 'COMMIT' && Number((error as { errno?: unknown }).errno) > 0) original.call(this, 'ROLLBACK', () => undefined);
    };
    if (refusal) {
      if (firstWord(sql) === 'COMMIT') original.call(this, 'ROLLBACK', () => trace.succeeded('ROLLBACK', undefined));
      if (typeof done === 'function') return void queueMicrotask(() => done(refusal));
      return Promise.reject(refusal);
    }
    if (typeof done === 'function') {
      args[args.length - 1] = (error: Error | null, ...results: unknown[]) => {
        if (error) failed(error);
        else trace.succeeded(sql, (results[0] as { command?: string } | undefined)?.command);
        return done(error, ...results);
      };
      return original.apply(this, args);
    }
    const result = original.apply(this, args);
    if (typeof result?.then !== 'function') return result;
    return result.then(
      (value: { command?: string }) => {
        trace.succeeded(sql, value?.command);
        return value;
      },
      (error: Error) => {
        failed(error);
        throw error;
      },
    );
  };
}

/** `execSync` and `isTransaction` are those of `SqliteConnection`. */
function wrapSync(connection: { execSync: AnyFunction; readonly isTransaction?: boolean }, trace: TransactionTrace): void {
  const original = connection.execSync;
  connection.execSync = function (this: unknown, sql: string, params: readonly unknown[], wantRows: boolean) {
    const refusal = trace.refuse(sql);
    if (refusal) {
      if (firstWord(sql) === 'COMMIT') trace.succeeded('ROLLBACK', undefined);
      throw refusal;
    }
    if (trace.doomedBy !== undefined && /^\s*ROLLBACK\s*;?\s*$/i.test(sql)) {
      // Nothing is left to roll back, and SQLite would refuse.
      trace.succeeded('ROLLBACK', undefined);
      return wantRows ? [] : { changes: 0, lastInsertRowid: 0 };
    }
    try {
      const result = original.call(this, sql, params, wantRows);
      trace.succeeded(sql, undefined);
      return result;
    } catch (error) {
      trace.failed(sql, error as Error, connection.isTransaction === false);
      throw error;
    }
  };
}
