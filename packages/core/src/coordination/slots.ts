import { fitKey } from '../check/fit-key.ts';
import type { Database } from '../database/database.ts';
import { insertNew, skipLocked } from '../database/dialect-sql.ts';
import type { SqlRunner } from '../database/sql-runner.ts';

const slotsPerStatement = 500;

/**
 * A limit on concurrent work that holds across processes. The row of a slot names the work that occupies it. A slot does not expire: the
 * transaction that ends the work frees it.
 */
export class Slots {
  readonly #database: Database;
  readonly #table: string;

  constructor(database: Database) {
    this.#database = database;
    this.#table = database.table('holdfast_slot');
  }

  /** Sets the number of slots of the scope. Occupied slots above `count` stay, and a later call deletes them once they are free. */
  async ensure(scope: string, count: number): Promise<void> {
    await this.#database.transaction(async (sql) => {
      for (let from = 1; from <= count; from += slotsPerStatement) {
        const slots = Array.from({ length: Math.min(slotsPerStatement, count - from + 1) }, (_, i) => from + i);
        const values = slots.map((slot) => `(?, ${slot})`).join(', ');
        await sql.run(
          insertNew(this.#database, `INTO ${this.#table} (scope, slot) VALUES ${values}`),
          slots.map(() => column(scope)),
        );
      }
      await sql.run(`DELETE FROM ${this.#table} WHERE scope = ? AND slot > ? AND holder IS NULL`, [column(scope), count]);
    });
  }

  /** Locks up to `wanted` free slots, and skips slots that other transactions have locked. Returns the numbers of the slots. */
  async lockFree(sql: SqlRunner, scope: string, wanted: number): Promise<number[]> {
    const lock = skipLocked(this.#database);
    const free = await sql.rows<{ slot: number }>(
      `SELECT slot FROM ${this.#table} WHERE scope = ? AND holder IS NULL ORDER BY slot LIMIT ${Math.trunc(wanted)}${lock}`,
      [column(scope)],
    );
    return free.map(({ slot }) => Number(slot));
  }

  /** Assigns slots that {@link lockFree} has locked to holders, in order. */
  async take(sql: SqlRunner, scope: string, free: readonly number[], holders: readonly string[]): Promise<void> {
    if (holders.length > free.length) throw new RangeError(`${holders.length} holders for ${free.length} slots of ${scope}`);
    for (const [i, holder] of holders.entries())
      await sql.run(`UPDATE ${this.#table} SET holder = ? WHERE scope = ? AND slot = ?`, [holder, column(scope), free[i]]);
  }

  /** Frees the slots that these holders occupy. Returns the number of slots freed. */
  async free(sql: SqlRunner, scope: string, holders: readonly string[]): Promise<number> {
    if (holders.length === 0) return 0;
    const marks = holders.map(() => '?').join(', ');
    return sql.run(`UPDATE ${this.#table} SET holder = NULL WHERE scope = ? AND holder IN (${marks})`, [column(scope), ...holders]);
  }

  /** The holders of the occupied slots of the scope, in the order of the slots. */
  async holders(scope: string): Promise<string[]> {
    const rows = await this.#database.rows<{ holder: string }>(
      `SELECT holder FROM ${this.#table} WHERE scope = ? AND holder IS NOT NULL ORDER BY slot`,
      [column(scope)],
    );
    return rows.map((row) => row.holder);
  }
}

function column(scope: string): string {
  return fitKey(scope, 100);
}
