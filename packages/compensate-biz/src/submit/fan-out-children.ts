import { type Database, forUpdate, type SqlRunner } from '@holdfast/core';
import { FanOutCancelledError } from '../errors.ts';
import { parentType } from '../table/parent-type.ts';
import { insertChildren } from './insert-rows.ts';
import type { NewRow } from './new-row.ts';

/**
 * The children of one fan-out, as they are written. All writers lock the fan-out's row first, so that one writes at a time, and none once it is
 * cancelled: each call then throws FanOutCancelledError.
 */
export class FanOutChildren {
  readonly #database: Database;
  readonly #parent: bigint;
  readonly #key: string;
  readonly #table: string;
  readonly #fanOuts: string;

  constructor(database: Database, { id, key }: { readonly id: string; readonly key: string }) {
    this.#database = database;
    this.#parent = BigInt(id);
    this.#key = key;
    this.#table = database.table('compensate_biz');
    this.#fanOuts = database.table('compensate_biz_fan_out');
  }

  /**
   * Writes children and adds their number to the fan-out in one transaction. Of keyed ones it writes those that are not there yet. Returns
   * how many it wrote, or `undefined` if the fan-out has ended or is not at `produced`, since another caller writes to it.
   */
  write(rows: readonly NewRow[], { keyed, produced }: { readonly keyed: boolean; readonly produced: number }): Promise<number | undefined> {
    return this.#database.transaction(async (sql) => {
      if (!(await this.#isAt(sql, produced))) return undefined;
      const missing = keyed ? await this.#missing(sql, rows) : rows;
      if (missing.length === 0) return 0;
      await insertChildren(this.#database, sql, missing);
      await this.#setProduced(sql, produced + missing.length);
      return missing.length;
    });
  }

  /**
   * Counts the children anew when a keyed fan-out is resumed: earlier releases counted its items, not its rows. One statement reads the
   * children that live and the counts of those that have ended, so that a child that ends meanwhile is counted once.
   */
  recount(): Promise<number> {
    return this.#database.transaction(async (sql) => {
      await this.#lock(sql);
      const counts = this.#database.table('compensate_biz_fan_out_count');
      const [row] = await sql.rows<{ n: string | number }>(
        `SELECT (SELECT count(*) FROM ${this.#table} WHERE parent_id = ${this.#parent} AND biz_type <> '${parentType}' AND status NOT IN ('SUCCESS', 'FAILED', 'CANCELLED')) + (SELECT COALESCE(sum(done + failed + cancelled), 0) FROM ${counts} WHERE parent_id = ${this.#parent}) AS n`,
      );
      await this.#setProduced(sql, Number(row?.n));
      return Number(row?.n);
    });
  }

  /** Closes the fan-out: it has as many children as were written. Returns their number, or `undefined` if another caller writes to it. */
  finish(produced: number): Promise<number | undefined> {
    return this.#database.transaction(async (sql) => {
      const record = await this.#lock(sql);
      if (record.total !== null) return Number(record.total);
      if (Number(record.produced) !== produced) return undefined;
      await sql.run(`UPDATE ${this.#fanOuts} SET total = ${produced} WHERE parent_id = ${this.#parent}`);
      return produced;
    });
  }

  async #isAt(sql: SqlRunner, produced: number): Promise<boolean> {
    const record = await this.#lock(sql);
    return record.total === null && Number(record.produced) === produced;
  }

  /** @throws FanOutCancelledError */
  async #lock(sql: SqlRunner): Promise<{ readonly produced: string | number; readonly total: string | number | null }> {
    const [record] = await sql.rows<{ produced: string | number; total: string | number | null; cancelled: string | number }>(
      `SELECT produced, total, cancelled FROM ${this.#fanOuts} WHERE parent_id = ${this.#parent}${forUpdate(this.#database)}`,
    );
    if (record && Number(record.cancelled) === 1) throw new FanOutCancelledError(this.#key, this.#parent.toString());
    return record ?? { produced: 0, total: null };
  }

  async #setProduced(sql: SqlRunner, produced: number): Promise<void> {
    await sql.run(`UPDATE ${this.#fanOuts} SET produced = ${produced} WHERE parent_id = ${this.#parent}`);
  }

  /** The first row of each key that has no child yet. Index: `(parent_id, child_key)`. */
  async #missing(sql: SqlRunner, rows: readonly NewRow[]): Promise<NewRow[]> {
    const first = new Map<string, NewRow>();
    for (const row of rows) if (!first.has(row.child_key ?? '')) first.set(row.child_key ?? '', row);
    const keys = [...first.keys()];
    const written = await sql.rows<{ child_key: string }>(
      `SELECT child_key FROM ${this.#table} WHERE parent_id = ${this.#parent} AND child_key IN (${keys.map(() => '?').join(', ')})`,
      keys,
    );
    for (const { child_key } of written) first.delete(child_key);
    return [...first.values()];
  }
}
