import type { Database } from '../database/database.ts';
import { forUpdate, insertNew } from '../database/dialect-sql.ts';
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

  /**
   * Records many keys for `windowMs`, as {@link enter} does each, in a few statements. Locks them in one order. Returns the references of
   * the keys that were used before; the other keys are new.
   * @param stillCounts returns those of the references that still count
   */
  async enterMany(
    sql: SqlRunner,
    scope: string,
    keys: readonly string[],
    windowMs: number,
    stillCounts?: (refs: readonly string[]) => Promise<ReadonlySet<string>>,
  ): Promise<ReadonlyMap<string, string | null>> {
    const earlier = new Map<string, string | null>();
    const lock = forUpdate(this.#database);
    let left = [...new Set(keys)];
    while (left.length > 0) {
      const values = this.#keys(left);
      await sql.run(
        insertNew(
          this.#database,
          `INTO ${this.#table} (scope, once_key, expires_at) SELECT ?, u.once, 0 FROM ${values.sql} WHERE 1 = 1 ORDER BY u.once`,
        ),
        [scope, values.param],
      );
      const rows = await sql.rows<{ once_key: string; ref: string | null; live: number | string | boolean }>(
        `SELECT once_key, ref, CASE WHEN expires_at > {now} THEN 1 ELSE 0 END AS live FROM ${this.#table} WHERE scope = ? AND once_key IN (${marks(left)}) ORDER BY once_key${lock}`,
        [scope, ...left],
      );
      const refs = rows.flatMap(({ ref, live }) => (Number(live) === 1 && ref !== null ? [ref] : []));
      const counting = stillCounts && refs.length > 0 ? await stillCounts(refs) : undefined;
      const fresh: string[] = [];
      for (const { once_key, ref, live } of rows) {
        if (Number(live) === 1 && (ref === null || !counting || counting.has(ref))) earlier.set(once_key, ref);
        else fresh.push(once_key);
      }
      if (fresh.length > 0)
        await sql.run(`UPDATE ${this.#table} SET ref = NULL, expires_at = {now} + ? WHERE scope = ? AND once_key IN (${marks(fresh)})`, [
          windowMs,
          scope,
          ...fresh,
        ]);
      // A key without a row had expired, and was purged between the two statements.
      const found = new Set(rows.map(({ once_key }) => once_key));
      left = left.filter((key) => !found.has(key));
    }
    return earlier;
  }

  /** Sets the references of many keys, by key. */
  async setRefs(sql: SqlRunner, scope: string, refs: ReadonlyMap<string, string>): Promise<void> {
    if (refs.size === 0) return;
    if (this.#database.family === 'sqlite') {
      // Joined with plain values, the table is scanned once for each of them: 1,000 keys took seconds.
      for (const [key, ref] of refs) await this.setRef(sql, scope, key, ref);
      return;
    }
    const values = valuesTable(
      this.#database,
      { once: 'text', ref: 'text' },
      [...refs].map(([once, ref]) => ({ once, ref })),
    );
    if (this.#database.family === 'mysql')
      await sql.run(`UPDATE ${this.#table} o JOIN ${values.sql} ON o.scope = ? AND o.once_key = u.once SET o.ref = u.ref`, [
        values.param,
        scope,
      ]);
    else
      await sql.run(`UPDATE ${this.#table} SET ref = u.ref FROM ${values.sql} WHERE scope = ? AND once_key = u.once`, [
        values.param,
        scope,
      ]);
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
    const values = this.#keys(keys);
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

  #keys(keys: readonly string[]): ReturnType<typeof valuesTable> {
    return valuesTable(
      this.#database,
      { once: 'text' },
      keys.map((once) => ({ once })),
    );
  }
}

function marks(values: readonly unknown[]): string {
  return values.map(() => '?').join(', ');
}
