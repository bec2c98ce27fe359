import type { Database } from '../database/database.ts';
import type { Executor } from '../database/executor.ts';
import { insertIgnore } from './insert-ignore.ts';

/**
 * A cap that holds across processes. A slot's row names the work that occupies it and never expires by time: only that
 * work's own fenced transition frees it, in the same transaction.
 */
export class Slots {
  readonly #database: Database;
  readonly #table: string;

  constructor(database: Database) {
    this.#database = database;
    this.#table = database.table('holdfast_slot');
  }

  /** Makes the scope have exactly `count` slots; occupied ones above it go when they are freed. */
  async ensure(scope: string, count: number): Promise<void> {
    await this.#database.transaction(async (x) => {
      for (let slot = 1; slot <= count; slot++) await x.run(insertIgnore(this.#database, this.#table, ['scope', 'slot']), [scope, slot]);
      await x.run(`DELETE FROM ${this.#table} WHERE scope = ? AND slot > ? AND holder IS NULL`, [scope, count]);
    });
  }

  /** Occupies up to as many free slots as there are holders; returns the holders that got one. Locks those rows. */
  async occupy(x: Executor, scope: string, holders: readonly string[]): Promise<string[]> {
    const lock = this.#database.family === 'sqlite' ? '' : ' FOR UPDATE SKIP LOCKED';
    const free = await x.rows<{ slot: number }>(
      `SELECT slot FROM ${this.#table} WHERE scope = ? AND holder IS NULL ORDER BY slot LIMIT ${holders.length}${lock}`,
      [scope],
    );
    const got: string[] = [];
    for (const { slot } of free) {
      const holder = holders[got.length];
      if (holder === undefined) break;
      await x.run(`UPDATE ${this.#table} SET holder = ? WHERE scope = ? AND slot = ?`, [holder, scope, slot]);
      got.push(holder);
    }
    return got;
  }

  /** Frees the slot that `holder` occupies. Returns whether it had one. */
  async free(x: Executor, scope: string, holder: string): Promise<boolean> {
    return (await x.run(`UPDATE ${this.#table} SET holder = NULL WHERE scope = ? AND holder = ?`, [scope, holder])) > 0;
  }

  /** Who occupies slots of the scope. */
  async holders(scope: string): Promise<string[]> {
    const rows = await this.#database.rows<{ holder: string }>(
      `SELECT holder FROM ${this.#table} WHERE scope = ? AND holder IS NOT NULL ORDER BY slot`,
      [scope],
    );
    return rows.map((row) => row.holder);
  }
}
