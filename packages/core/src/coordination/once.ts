import type { Database } from '../database/database.ts';
import { forUpdate } from '../database/dialect-sql.ts';
import { insertIgnore } from '../database/insert-ignore.ts';
import type { SqlRunner } from '../database/sql-runner.ts';
import { valuesTable } from '../database/values-table.ts';

/** What {@link Once.enter} found. */
export type OnceEntry =
  /** First of its key within the window: do the work, then `setRef`. */
  | { readonly first: true }
  /** The key was used before; `ref` is what the first one left. */
  | { readonly first: false; readonly ref: string | null };

/**
 * Idempotency keys that outlive the rows they stand for, in `holdfast_once`. Written in the transaction of the work, so
 * key and work commit together; a second caller waits for the first to commit and then finds it.
 */
export class Once {
  readonly #database: Database;
  readonly #table: string;

  constructor(database: Database) {
    this.#database = database;
    this.#table = database.table('holdfast_once');
  }

  /** Notes a key. Returns what it was noted with before, if it was. */
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
      // None: an expired key, purged between the two statements.
      if (taken === 1) return { first: true };
    }
  }

  /** Notes what the key stands for. */
  async setRef(sql: SqlRunner, scope: string, key: string, ref: string): Promise<void> {
    await sql.run(`UPDATE ${this.#table} SET ref = ? WHERE scope = ? AND once_key = ?`, [ref, scope, key]);
  }

  /** What a live key stands for, if anything. */
  async find(sql: SqlRunner, scope: string, key: string): Promise<string | undefined> {
    const [row] = await sql.rows<{ ref: string | null }>(
      `SELECT ref FROM ${this.#table} WHERE scope = ? AND once_key = ? AND expires_at > {now}`,
      [scope, key],
    );
    return row?.ref ?? undefined;
  }

  /** The same of many, by key. */
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

  /** Deletes keys whose window is over. */
  async purge(): Promise<number> {
    return this.#database.run(`DELETE FROM ${this.#table} WHERE expires_at < {now}`);
  }
}
