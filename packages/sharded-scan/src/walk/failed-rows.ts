import { type Database, forUpdate, type SqlRunner, type StoredError } from '@holdfast/core';
import type { Position } from './keyset.ts';

/** A row that could not be handled: the text of its key, and the error. */
export interface RowFailure {
  readonly key: Position;
  readonly error: StoredError;
}

/** A failed row as it is stored. */
export interface StoredFailure {
  readonly id: string;
  readonly pass: string;
  readonly key: Position;
}

/** What became of failed rows that were handed over again. Those that are neither handled nor failed are gone, or match no longer. */
export interface Redriven {
  readonly taken: readonly StoredFailure[];
  readonly handled: readonly Position[];
  readonly failures: readonly RowFailure[];
}

/**
 * Failures are kept for this many passes, the current one included. Without a limit, a row that always fails would add one per pass for
 * ever.
 */
const passesKept = 10;

/** The failed rows of one scan and scope: their keys and errors. */
export class FailedRows {
  readonly #database: Database;
  readonly #scan: string;
  readonly #scope: string;
  readonly #failures: string;
  readonly #units: string;

  constructor(database: Database, scan: string, scope: string) {
    this.#database = database;
    this.#scan = scan;
    this.#scope = scope;
    this.#failures = database.table('scan_failure');
    this.#units = database.table('scan_unit');
  }

  /** Writes rows that failed in a pass. */
  async add(sql: SqlRunner, unit: string, pass: string, failures: readonly RowFailure[]): Promise<void> {
    for (const { key, error } of failures)
      await sql.run(
        `INSERT INTO ${this.#failures} (scan, scope, unit, pass, row_key, error, failed_at) VALUES (?, ?, ?, ${BigInt(pass)}, ?, ?, {now})`,
        [this.#scan, this.#scope, unit, JSON.stringify(key), JSON.stringify(error)],
      );
  }

  /** Deletes those of passes that are too long ago, when a pass begins. */
  async purge(sql: SqlRunner, pass: string): Promise<void> {
    await sql.run(`DELETE FROM ${this.#failures} WHERE scan = ? AND scope = ? AND pass <= ${BigInt(pass) - BigInt(passesKept)}`, [
      this.#scan,
      this.#scope,
    ]);
  }

  /** Deletes those of the latest pass, when it begins again. */
  async deleteLatest(sql: SqlRunner): Promise<void> {
    const ids = [this.#scan, this.#scope];
    await sql.run(
      `DELETE FROM ${this.#failures} WHERE scan = ? AND scope = ? AND pass = (SELECT p.pass FROM ${this.#database.table('scan_pass')} p WHERE p.scan = ? AND p.scope = ?)`,
      [...ids, ...ids],
    );
  }

  /** The units that have failed rows, each with the id of its last one. */
  async lastOfEachUnit(): Promise<ReadonlyMap<string, string>> {
    const last = this.#database.text('MAX(f.id)');
    const rows = await this.#database.rows<{ unit: string; last_id: string }>(
      `SELECT f.unit, ${last} AS last_id FROM ${this.#failures} f WHERE f.scan = ? AND f.scope = ? GROUP BY f.unit ORDER BY f.unit`,
      [this.#scan, this.#scope],
    );
    return new Map(rows.map(({ unit, last_id }) => [unit, last_id]));
  }

  /** Failed rows of a unit with ids above `after` and up to `last`, by id. */
  async page(unit: string, after: string, last: string, most: number): Promise<readonly StoredFailure[]> {
    const rows = await this.#database.rows<{ id: string; pass: string; row_key: string }>(
      `SELECT ${this.#database.text('f.id')} AS id, ${this.#database.text('f.pass')} AS pass, f.row_key FROM ${this.#failures} f WHERE f.scan = ? AND f.scope = ? AND f.unit = ? AND f.id > ${BigInt(after)} AND f.id <= ${BigInt(last)} ORDER BY f.id LIMIT ${most}`,
      [this.#scan, this.#scope, unit],
    );
    return rows.map(({ id, pass, row_key }) => ({ id, pass, key: JSON.parse(row_key) as Position }));
  }

  /**
   * Writes what became of failed rows that were redriven. The rows of the current pass count as handled, or as gone, from here on.
   * @param sql a transaction in which the lease of the unit is fenced
   */
  async settle(sql: SqlRunner, unit: string, redriven: Redriven): Promise<void> {
    const { taken, handled, failures } = redriven;
    const ids = [this.#scan, this.#scope, unit];
    const [row] = await sql.rows<{ pass: string }>(
      `SELECT ${this.#database.text('pass')} AS pass FROM ${this.#units} WHERE scan = ? AND scope = ? AND unit = ?${forUpdate(this.#database)}`,
      ids,
    );
    const passes = new Map(taken.map(({ key, pass }) => [JSON.stringify(key), pass]));
    await sql.run(
      `DELETE FROM ${this.#failures} WHERE scan = ? AND scope = ? AND unit = ? AND row_key IN (${[...passes].map(() => '?').join(', ')})`,
      [...ids, ...passes.keys()],
    );
    for (const failure of failures) await this.add(sql, unit, passes.get(JSON.stringify(failure.key)) ?? row?.pass ?? '0', [failure]);
    const ofThisPass = (keys: readonly Position[]): number => keys.filter((key) => passes.get(JSON.stringify(key)) === row?.pass).length;
    const [all, again] = [[...passes.values()].filter((pass) => pass === row?.pass).length, ofThisPass(failures.map(({ key }) => key))];
    await sql.run(
      `UPDATE ${this.#units} SET failed = failed - ${all - again}, handled = handled + ${ofThisPass(handled)} WHERE scan = ? AND scope = ? AND unit = ? AND failed >= ${all - again}`,
      ids,
    );
  }
}
