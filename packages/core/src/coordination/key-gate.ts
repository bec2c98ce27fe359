import { keyText } from '../check/key-text.ts';
import type { Database } from '../database/database.ts';
import { forUpdate, insertOrLock, skipLocked } from '../database/dialect-sql.ts';
import type { SqlRunner } from '../database/sql-runner.ts';

const purgeRows = 500;

/**
 * Lets rows of one key run one at a time, in the order of their ids. The gate is locked before a row gets its id, so the ids of one key
 * are in commit order. The turn passes on in the transaction that ends the row before. (A `NOT EXISTS` in the claim instead lets two rows
 * run at once.)
 *
 * Lock order: a work row before its gate. A submit locks the gate and then inserts a new row, for which no other transaction can wait.
 */
export class KeyGate {
  readonly #database: Database;
  readonly #table: string;

  constructor(database: Database) {
    this.#database = database;
    this.#table = database.table('holdfast_gate');
  }

  /** Locks the gate, and inserts it if it does not exist. Returns the id at its head, or `null` if the key is free. */
  async lock(sql: SqlRunner, scope: string, key: string): Promise<string | null> {
    keyText('scope', scope);
    keyText('key', key);
    const lock = forUpdate(this.#database);
    for (;;) {
      await sql.run(insertOrLock(this.#database, `INTO ${this.#table} (scope, gate_key) VALUES (?, ?)`, 'gate_key'), [scope, key]);
      const [row] = await sql.rows<{ head: string | null }>(
        `SELECT ${this.#database.text('head')} AS head FROM ${this.#table} WHERE scope = ? AND gate_key = ?${lock}`,
        [scope, key],
      );
      // No row: the gate was purged between the two statements.
      if (row) return row.head === null ? null : String(row.head);
    }
  }

  /** Puts `id` at the head of a gate that is locked. */
  async setHead(sql: SqlRunner, scope: string, key: string, id: string | null): Promise<void> {
    const head = id === null ? 'NULL' : BigInt(id).toString();
    await sql.run(`UPDATE ${this.#table} SET head = ${head} WHERE scope = ? AND gate_key = ?`, [scope, key]);
  }

  /**
   * Ends the turn of `id`: the next BLOCKED row becomes the head. `next` finds that row and makes it READY; it returns the row's id, or
   * `undefined` if no row is left. Returns the new head. Does nothing if `id` is not the head.
   */
  async handOn(
    sql: SqlRunner,
    scope: string,
    key: string,
    id: string,
    next: () => Promise<string | undefined>,
  ): Promise<string | undefined> {
    if ((await this.lock(sql, scope, key)) !== id) return undefined;
    const head = await next();
    await this.setHead(sql, scope, key, head ?? null);
    return head;
  }

  /** SQL for a page of the gates that have a head, in the order of their keys. Parameters: the scope, and the key before the page. */
  headsSql(limit: number): string {
    return `SELECT gate_key, head FROM ${this.#table} WHERE scope = ? AND gate_key > ? AND head IS NOT NULL ORDER BY gate_key LIMIT ${limit}`;
  }

  /**
   * Deletes the gates of free keys, and skips those that a transaction has locked, so that no submit waits for it or deadlocks with it.
   * Returns their number. Index: the primary key.
   */
  async purge(scope: string, signal?: AbortSignal): Promise<number> {
    const { family } = this.#database;
    for (let total = 0, after = ''; ; ) {
      const [count, last] = await this.#database.transaction(async (sql): Promise<[number, string | undefined]> => {
        const free = await sql.rows<{ gate_key: string }>(
          `SELECT gate_key FROM ${this.#table} WHERE scope = ? AND gate_key > ? AND head IS NULL ORDER BY gate_key LIMIT ${purgeRows}${skipLocked(this.#database)}`,
          [scope, after],
        );
        const keys = free.map((row) => row.gate_key);
        if (keys.length === 0) return [0, undefined];
        const list = family === 'postgres' ? 'gate_key = ANY(?)' : `gate_key IN (${keys.map(() => '?').join(', ')})`;
        await sql.run(`DELETE FROM ${this.#table} WHERE scope = ? AND ${list}`, [scope, ...(family === 'postgres' ? [keys] : keys)]);
        return [keys.length, keys.at(-1)];
      });
      total += count;
      if (count < purgeRows || last === undefined || signal?.aborted) return total;
      after = last;
    }
  }
}
