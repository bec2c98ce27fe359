import { keyText } from '../check/key-text.ts';
import type { Database } from '../database/database.ts';
import { forUpdate, quoted } from '../database/dialect-sql.ts';
import { insertIgnore } from '../database/insert-ignore.ts';
import type { SqlRunner } from '../database/sql-runner.ts';

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
      await sql.run(insertIgnore(this.#database, this.#table, ['scope', 'gate_key']), [scope, key]);
      const [row] = await sql.rows<{ head: string | null }>(
        `SELECT ${this.#headText()} FROM ${this.#table} WHERE scope = ? AND gate_key = ?${lock}`,
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

  /** The gates that have a head, in the order of their keys, for the repair sweep. */
  async heads(scope: string, afterKey: string, limit: number): Promise<{ readonly key: string; readonly head: string }[]> {
    return this.#database.rows(
      `SELECT gate_key AS ${quoted(this.#database, 'key')}, ${this.#headText()} FROM ${this.#table} WHERE scope = ? AND head IS NOT NULL AND gate_key > ? ORDER BY gate_key LIMIT ${limit}`,
      [scope, afterKey],
    );
  }

  /** Deletes gates without a head. */
  async purge(scope: string): Promise<number> {
    return this.#database.run(`DELETE FROM ${this.#table} WHERE scope = ? AND head IS NULL`, [scope]);
  }

  #headText(): string {
    return `${this.#database.text('head')} AS head`;
  }
}
