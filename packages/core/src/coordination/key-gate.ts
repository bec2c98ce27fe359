import type { Database } from '../database/database.ts';
import { forUpdate, quoted } from '../database/dialect-sql.ts';
import { insertIgnore } from '../database/insert-ignore.ts';
import type { SqlRunner } from '../database/sql-runner.ts';

/**
 * One at a time per key, in id order. The gate's row is locked before a row's id is taken, so ids of one key are in
 * commit order, and the head is handed on inside the transaction that ends the one before. (A `NOT EXISTS` in the claim
 * instead lets two in at once.)
 *
 * Lock order: a work row before its gate. A submit locks the gate and then inserts a new row, which nobody can wait for.
 */
export class KeyGate {
  readonly #database: Database;
  readonly #table: string;

  constructor(database: Database) {
    this.#database = database;
    this.#table = database.table('holdfast_gate');
  }

  /** Locks the gate, making it if it is new; returns the id at its head, or `null` if the key is free. */
  async lock(sql: SqlRunner, scope: string, key: string): Promise<string | null> {
    const lock = forUpdate(this.#database);
    for (;;) {
      await sql.run(insertIgnore(this.#database, this.#table, ['scope', 'gate_key']), [scope, key]);
      const [row] = await sql.rows<{ head: string | null }>(
        `SELECT ${this.#headText()} FROM ${this.#table} WHERE scope = ? AND gate_key = ?${lock}`,
        [scope, key],
      );
      // None: purged between the two statements.
      if (row) return row.head === null ? null : String(row.head);
    }
  }

  /** Puts `id` at the head of a gate that is locked. */
  async setHead(sql: SqlRunner, scope: string, key: string, id: string | null): Promise<void> {
    const head = id === null ? 'NULL' : BigInt(id).toString();
    await sql.run(`UPDATE ${this.#table} SET head = ${head} WHERE scope = ? AND gate_key = ?`, [scope, key]);
  }

  /**
   * Ends the turn of `id`: the next BLOCKED row, found by `next`, becomes the head. `next` must open the row it returns
   * (make it READY), and return `undefined` if none is left. Returns the new head.
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

  /** Gates whose head is set, by key order, for the repair sweep. */
  async heads(scope: string, afterKey: string, limit: number): Promise<{ readonly key: string; readonly head: string }[]> {
    return this.#database.rows(
      `SELECT gate_key AS ${quoted(this.#database, 'key')}, ${this.#headText()} FROM ${this.#table} WHERE scope = ? AND head IS NOT NULL AND gate_key > ? ORDER BY gate_key LIMIT ${limit}`,
      [scope, afterKey],
    );
  }

  /** Deletes gates that nobody is behind. */
  async purge(scope: string): Promise<number> {
    return this.#database.run(`DELETE FROM ${this.#table} WHERE scope = ? AND head IS NULL`, [scope]);
  }

  #headText(): string {
    return `${this.#database.text('head')} AS head`;
  }
}
