import { keyText } from '../check/key-text.ts';
import { currentRows } from '../database/current-rows.ts';
import type { Database } from '../database/database.ts';
import { deleteOlder } from '../database/delete-older.ts';
import { forUpdate, insertNew, insertOrLock, quoted } from '../database/dialect-sql.ts';
import { rowsAtPresent } from '../database/rows-at-present.ts';
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

  /** Records a key for `windowMs`. Returns whether it is new, and the reference of the first caller if it is not. */
  async enter(sql: SqlRunner, scope: string, key: string, windowMs: number): Promise<OnceEntry> {
    keyText('scope', scope);
    keyText('key', key);
    const lock = forUpdate(this.#database);
    for (;;) {
      // MySQL does not tell whether this statement has inserted the row. One that it has is expired until it is taken below.
      const expiry = this.#database.family === 'mysql' ? '0' : '{now} + ?';
      const inserted = await sql.run(
        insertOrLock(this.#database, `INTO ${this.#table} (scope, once_key, expires_at) VALUES (?, ?, ${expiry})`, 'once_key'),
        this.#database.family === 'mysql' ? [scope, key] : [scope, key, windowMs],
      );
      if (inserted > 0 && this.#database.family !== 'mysql') return { first: true };
      const [row] = await sql.rows<{ ref: string | null; live: number | string | boolean }>(
        `SELECT ref, CASE WHEN expires_at > {now} THEN 1 ELSE 0 END AS live FROM ${this.#table} WHERE scope = ? AND once_key = ?${lock}`,
        [scope, key],
      );
      if (row && Number(row.live) === 1) return { first: false, ref: row.ref };
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
   * Records many keys for `windowMs`, in a few statements. Returns which of them are new, in the order given; of two equal keys the second is
   * not. Every call records and locks its keys in one order, so that two calls with the same keys do not deadlock.
   */
  async enterMany(sql: SqlRunner, scope: string, keys: readonly string[], windowMs: number): Promise<readonly boolean[]> {
    const earlier = await this.enterAll(sql, scope, keys, windowMs);
    const fresh = new Set(keys.filter((key) => !earlier.has(key)));
    return keys.map((key) => fresh.delete(key));
  }

  /**
   * As {@link enterMany}, but returns the references of the keys that were used before. The other keys are new: do their work, then call
   * `setRefs`.
   * @param stillCounts returns those of the references that still count; a key with another one is recorded anew
   */
  async enterAll(
    sql: SqlRunner,
    scope: string,
    keys: readonly string[],
    windowMs: number,
    stillCounts?: (refs: readonly string[]) => Promise<ReadonlySet<string>>,
  ): Promise<ReadonlyMap<string, string | null>> {
    keyText('scope', scope);
    for (const key of keys) keyText('key', key);
    const earlier = new Map<string, string | null>();
    for (let missing: readonly string[] = [...new Set(keys)].sort(); missing.length > 0; ) {
      for (const part of partsOf(missing)) await this.#insert(sql, scope, part);
      // A key that is missing had expired, and was purged between the two statements.
      const absent: string[] = [];
      for (const part of partsOf(missing)) {
        const found = await this.#lock(sql, scope, part);
        const refs = [...found.values()].flatMap(({ live, ref }) => (live && ref !== null ? [ref] : []));
        const counting = stillCounts && refs.length > 0 ? await stillCounts(refs) : undefined;
        const free: string[] = [];
        for (const [key, { live, ref }] of found) {
          if (live && (ref === null || !counting || counting.has(ref))) earlier.set(key, ref);
          else free.push(key);
        }
        if (free.length > 0) await this.#take(sql, scope, free, windowMs);
        absent.push(...part.filter((key) => !found.has(key)));
      }
      missing = absent;
    }
    return earlier;
  }

  async #insert(sql: SqlRunner, scope: string, keys: readonly string[]): Promise<void> {
    const into = `INTO ${this.#table} (scope, once_key, expires_at)`;
    if (this.#database.family === 'postgres')
      await sql.run(
        insertNew(this.#database, `${into} SELECT ?, u.once, 0 FROM unnest(?::varchar[]) WITH ORDINALITY AS u(once, ord) ORDER BY u.ord`),
        [scope, keys],
      );
    else
      await sql.run(
        insertOrLock(this.#database, `${into} VALUES ${keys.map(() => '(?, ?, 0)').join(', ')}`, 'once_key'),
        keys.flatMap((key) => [scope, key]),
      );
  }

  /** Locks keys, and returns those that exist. `live`: another caller's window has not ended. A key that this call inserted expires at 0, so it is not live. */
  async #lock(
    sql: SqlRunner,
    scope: string,
    keys: readonly string[],
  ): Promise<ReadonlyMap<string, { readonly ref: string | null; readonly live: boolean }>> {
    const list = this.#oneOf(keys);
    const rows = await sql.rows<{ once_key: string; ref: string | null; live: number | string }>(
      `SELECT once_key, ref, CASE WHEN expires_at > {now} THEN 1 ELSE 0 END AS live FROM ${this.#table}${this.#database.primaryKeyHint} WHERE scope = ? AND once_key ${list.sql} ORDER BY once_key${forUpdate(this.#database)}`,
      [scope, ...list.params],
    );
    return new Map(rows.map(({ once_key, ref, live }) => [once_key, { ref, live: Number(live) === 1 }]));
  }

  /** Takes keys that are locked. */
  async #take(sql: SqlRunner, scope: string, keys: readonly string[], windowMs: number): Promise<void> {
    const list = this.#oneOf(keys);
    await sql.run(
      `UPDATE ${this.#table}${this.#database.primaryKeyHint} SET ref = NULL, expires_at = {now} + ? WHERE scope = ? AND once_key ${list.sql}`,
      [windowMs, scope, ...list.params],
    );
  }

  /** SQL that compares a column with any of the keys. */
  #oneOf(keys: readonly string[]): { readonly sql: string; readonly params: readonly unknown[] } {
    return this.#database.family === 'postgres'
      ? { sql: '= ANY(?::varchar[])', params: [keys] }
      : { sql: `IN (${keys.map(() => '?').join(', ')})`, params: keys };
  }

  /** Sets the reference of a key: for example, the id of the row that it stands for. */
  async setRef(sql: SqlRunner, scope: string, key: string, ref: string): Promise<void> {
    await sql.run(`UPDATE ${this.#table} SET ref = ? WHERE scope = ? AND once_key = ?`, [ref, scope, key]);
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

  /** The reference of a key whose window has not ended, or `undefined`. */
  async find(sql: SqlRunner, scope: string, key: string): Promise<string | undefined> {
    return (await this.findMany(sql, scope, [key])).get(key);
  }

  /** As {@link find}, for one thing that may have been recorded under several keys: the first of them that is there counts. */
  async findAny(sql: SqlRunner, scope: string, keys: readonly string[]): Promise<string | undefined> {
    const refs = await this.findMany(sql, scope, keys);
    return keys.map((key) => refs.get(key)).find((ref) => ref !== undefined);
  }

  /** The references of many keys, by key: those that hold now, whatever the snapshot of the transaction shows. */
  async findMany(sql: SqlRunner, scope: string, keys: readonly string[]): Promise<ReadonlyMap<string, string>> {
    const refs = new Map<string, string>();
    for (const part of partsOf(keys)) {
      const rows = await currentRows<{ key: string; ref: string | null }>(this.#database, sql, part, (some, lock) => {
        const list = this.#oneOf(some);
        return {
          sql: `SELECT once_key AS ${quoted(this.#database, 'key')}, ref FROM ${this.#table}${this.#database.primaryKeyHint} WHERE scope = ? AND once_key ${list.sql} AND expires_at > {now}${lock}`,
          params: [scope, ...list.params],
        };
      });
      for (const { key, ref } of rows) if (ref !== null) refs.set(key, ref);
    }
    return refs;
  }

  /** Deletes a key whose work was taken back before it began, so that the next caller is the first. */
  async forget(sql: SqlRunner, scope: string, key: string): Promise<void> {
    const where = 'WHERE scope = ? AND once_key = ?';
    const found = await rowsAtPresent(this.#database, sql, `SELECT 1 AS one FROM ${this.#table} ${where}`, [scope, key]);
    if (found.length > 0) await sql.run(`DELETE FROM ${this.#table} ${where}`, [scope, key]);
  }

  /** Deletes keys whose window has ended, in batches. */
  async purge(signal?: AbortSignal): Promise<number> {
    return deleteOlder(this.#database, this.#table, 'expires_at', '{now}', signal);
  }
}

const keysPerStatement = 500;

function* partsOf(keys: readonly string[]): Generator<readonly string[]> {
  for (let from = 0; from < keys.length; from += keysPerStatement) yield keys.slice(from, from + keysPerStatement);
}
