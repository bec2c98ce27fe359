import type { Database } from '../database/database.ts';
import { forUpdate } from '../database/dialect-sql.ts';
import { insertIgnore } from '../database/insert-ignore.ts';
import type { SqlRunner } from '../database/sql-runner.ts';
import { valuesTable } from '../database/values-table.ts';

/** The result of {@link Once.enter}. */
export type OnceEntry =
  /** The key is new, or its window has ended: do the work, then call `setRef`. */
  | { readonly first: true }
  /** The key was used before. `ref` is the reference that the first caller set. */
  | { readonly first: false; readonly ref: string | null };

/**
 * Idempotency keys, in `holdfast_once`, that outlive the rows they stand for. A key is written in the transaction of the work, so that both
 * commit together. A second caller waits until the first has committed, and then finds the key.
 */
export class Once {
  readonly #database: Database;
  readonly #table: string;

  constructor(database: Database) {
    this.#database = database;
    this.#table = database.table('holdfast_once');
  }

  /**
   * Records a key for `windowMs`. Returns whether it is new, and the reference of the first caller if it is not. A key whose reference
   * `stillCounts` refuses is recorded anew.
   */
  async enter(
    sql: SqlRunner,
    scope: string,
    key: string,
    windowMs: number,
    stillCounts?: (ref: string) => Promise<boolean>,
  ): Promise<OnceEntry> {
    const lock = forUpdate(this.#database);
    for (;;) {
      const inserted = await sql.run(insertIgnore(this.#database, this.#table, ['scope', 'once_key', 'expires_at']), [scope, key, 0]);
      if (inserted === 0) {
        const [row] = await sql.rows<{ ref: string | null; live: number | string | boolean }>(
          `SELECT ref, CASE WHEN expires_at > {now} THEN 1 ELSE 0 END AS live FROM ${this.#table} WHERE scope = ? AND once_key = ?${lock}`,
          [scope, key],
        );
        if (row && Number(row.live) === 1 && (row.ref === null || !stillCounts || (await stillCounts(row.ref))))
          return { first: false, ref: row.ref };
      }
      const taken = await sql.run(`UPDATE ${this.#table} SET ref = NULL, expires_at = {now} + ? WHERE scope = ? AND once_key = ?`, [
        windowMs,
        scope,
        key,
      ]);
      // No row: the key had expired, and was purged between the two statements.
      if (taken === 1) return { first: true };
    }
  }

  /** Sets the reference of a key: for example, the id of the row that it stands for. */
  async setRef(sql: SqlRunner, scope: string, key: string, ref: string): Promise<void> {
    await sql.run(`UPDATE ${this.#table} SET ref = ? WHERE scope = ? AND once_key = ?`, [ref, scope, key]);
  }

  /** The reference of a key whose window has not ended, or `undefined`. */
  async find(sql: SqlRunner, scope: string, key: string): Promise<string | undefined> {
    const [row] = await sql.rows<{ ref: string | null }>(
      `SELECT ref FROM ${this.#table} WHERE scope = ? AND once_key = ? AND expires_at > {now}`,
      [scope, key],
    );
    return row?.ref ?? undefined;
  }

  /** The references of many keys, by key. */
  async findMany(sql: SqlRunner, scope: string, keys: readonly string[]): Promise<ReadonlyMap<string, string>> {
    const values = valuesTable(
      this.#database,
      { once: 'text' },
      keys.map((once) => ({ once })),
    );
    const rows = await sql.rows<{ once_key: string; ref: string | null }>(
      `SELECT o.once_key, o.ref FROM ${values.sql} JOIN ${this.#table} o ON o.scope = ? AND o.once_key = u.once WHERE o.expires_at > {now}`,
      [values.param, scope],
    );
    return new Map(rows.flatMap(({ once_key, ref }) => (ref === null ? [] : [[once_key, ref]])));
  }

  /** Deletes keys whose window has ended. */
  async purge(): Promise<number> {
    return this.#database.run(`DELETE FROM ${this.#table} WHERE expires_at < {now}`);
  }
}
