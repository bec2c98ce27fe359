import { type Database, insertIgnore, type SqlRunner, type StoredError } from '@holdfast/core';
import type { Position } from './keyset.ts';

/** Where a unit of a pass is. */
export type UnitState = 'todo' | 'running' | 'done' | 'failed';

/** How far a unit is. */
export interface UnitProgress {
  readonly unit: string;
  readonly state: UnitState;
  readonly position: Position | undefined;
  readonly bound: Position | undefined;
  /** Rows that were gone past. */
  readonly examined: number;
  /** Of these: rows that matched, and were handed over. */
  readonly matched: number;
  readonly handled: number;
  readonly failed: number;
  /** About how many rows are left to go past, by the database's own estimate of the table. `undefined` before the unit is begun. */
  readonly remaining: number | undefined;
  /** Rows gone past per second, lately. 0 unless it is being walked. */
  readonly perSecond: number;
  readonly error: StoredError | undefined;
}

/** How far a pass is. */
export interface ScanProgress {
  /** The last pass that was begun; `'0'` before the first. */
  readonly pass: string;
  readonly startedAt: Date | undefined;
  /** `undefined` while it is under way or broken off. */
  readonly endedAt: Date | undefined;
  readonly units: readonly UnitProgress[];
}

/** A row that could not be handled. */
export interface RowFailure {
  readonly key: Position;
  readonly error: StoredError;
}

/** What a batch came to. */
export interface BatchCounts {
  readonly examined: number;
  readonly matched: number;
  readonly handled: number;
  readonly failures: readonly RowFailure[];
}

/** What is written after a batch. */
export interface Checkpoint {
  readonly epoch: number;
  readonly unit: string;
  readonly pass: string;
  /** Everything up to here is handled. */
  readonly position: Position;
  readonly counts: BatchCounts;
  /** Rows per second. */
  readonly rate: number;
  /** The unit is done. */
  readonly last: boolean;
  /** With the first checkpoint of a unit: where it ends, and about how many rows there are. */
  readonly begun: { readonly bound: Position; readonly expected: number | undefined } | undefined;
}

const progressColumns = 'unit, state, position, bound, expected, rate, examined, matched, handled, failed, error';
const unitsPerInsert = 500;
/** Failures are kept for so many passes, this one among them: a row that can never be handled fails in each. */
const passesKept = 10;

/**
 * Passes and checkpoints of one scan and scope. Each unit's row carries the epoch of the lease that it was last taken under, and every
 * write of a walk names its own: what one says after another has taken the unit changes nothing.
 */
export class ScanStore {
  readonly #database: Database;
  readonly #scan: string;
  readonly #scope: string;
  readonly #passes: string;
  readonly #units: string;

  constructor(database: Database, scan: string, scope: string) {
    this.#database = database;
    this.#scan = scan;
    this.#scope = scope;
    this.#passes = database.table('scan_pass');
    this.#units = database.table('scan_unit');
  }

  /** Joins the pass that is under way, or was broken off; begins the next one if there is none. */
  async open(units: readonly string[]): Promise<{ readonly pass: string; readonly resumed: boolean }> {
    const of = [this.#scan, this.#scope];
    const lock = this.#database.family === 'sqlite' ? '' : ' FOR UPDATE';
    return this.#database.transaction(async (sql) => {
      await sql.run(insertIgnore(this.#database, this.#passes, ['scan', 'scope']), of);
      const [row] = await sql.rows<{ pass: string; open: number | string }>(
        `SELECT ${this.#database.text('pass')} AS pass, CASE WHEN started_at IS NOT NULL AND ended_at IS NULL THEN 1 ELSE 0 END AS open FROM ${this.#passes} WHERE scan = ? AND scope = ?${lock}`,
        of,
      );
      const known = row?.pass ?? '0';
      const resumed = Number(row?.open) === 1;
      const pass = resumed ? known : String(BigInt(known) + 1n);
      if (!resumed)
        await sql.run(`UPDATE ${this.#passes} SET pass = ${pass}, started_at = {now}, ended_at = NULL WHERE scan = ? AND scope = ?`, of);
      const rows = await sql.rows<{ unit: string }>(`SELECT unit FROM ${this.#units} WHERE scan = ? AND scope = ?`, of);
      const there = new Set(rows.map(({ unit }) => unit));
      // Units that the topology has no more would never end.
      for (const unit of there)
        if (!units.includes(unit)) await sql.run(`DELETE FROM ${this.#units} WHERE scan = ? AND scope = ? AND unit = ?`, [...of, unit]);
      const added = units.filter((unit) => !there.has(unit));
      for (let from = 0; from < added.length; from += unitsPerInsert) {
        const some = added.slice(from, from + unitsPerInsert);
        await sql.run(
          `INSERT INTO ${this.#units} (scan, scope, unit, pass, state) VALUES ${some.map(() => `(?, ?, ?, ${pass}, 'todo')`).join(', ')}`,
          some.flatMap((unit) => [...of, unit]),
        );
      }
      if (resumed) return { pass, resumed };
      await sql.run(
        `DELETE FROM ${this.#database.table('scan_failure')} WHERE scan = ? AND scope = ? AND pass <= ${BigInt(pass) - BigInt(passesKept)}`,
        of,
      );
      // The epoch stays: it only grows.
      await sql.run(
        `UPDATE ${this.#units} SET pass = ${pass}, state = 'todo', position = NULL, bound = NULL, expected = NULL, rate = NULL, examined = 0, matched = 0, handled = 0, failed = 0, error = NULL, started_at = NULL, updated_at = {now} WHERE scan = ? AND scope = ?`,
        of,
      );
      return { pass, resumed: false };
    });
  }

  /**
   * Takes a unit under its lease, unless it has ended or a later epoch has it. Epochs of a lease only grow, so a holder of long ago
   * that begins now changes nothing.
   */
  async begin(epoch: number, unit: string, pass: string): Promise<UnitProgress | undefined> {
    await this.#database.run(
      `UPDATE ${this.#units} SET epoch = ${epoch}, state = 'running', started_at = COALESCE(started_at, {now}), updated_at = {now} WHERE scan = ? AND scope = ? AND unit = ? AND pass = ${pass} AND epoch < ${epoch} AND state IN ('todo', 'running')`,
      [this.#scan, this.#scope, unit],
    );
    return (await this.#progress(this.#database, `AND unit = ? AND epoch = ${epoch} AND state = 'running'`, [unit]))[0];
  }

  /** Returns whether the unit is still ours. */
  async checkpoint({ epoch, unit, pass, position, counts, rate, last, begun }: Checkpoint): Promise<boolean> {
    const { examined, matched, handled, failures } = counts;
    const params = [...(begun ? [JSON.stringify(begun.bound), begun.expected ?? null] : []), JSON.stringify(position)];
    const set = `${begun ? 'bound = ?, expected = ?, ' : ''}position = ?, rate = ${rate}, examined = examined + ${examined}, matched = matched + ${matched}, handled = handled + ${handled}, failed = failed + ${failures.length}${last ? ", state = 'done', error = NULL" : ''}`;
    if (failures.length === 0) return this.#write(this.#database, epoch, unit, set, params);
    return this.#database.transaction(async (sql) => {
      if (!(await this.#write(sql, epoch, unit, set, params))) return false;
      for (const { key, error } of failures)
        await sql.run(
          `INSERT INTO ${this.#database.table('scan_failure')} (scan, scope, unit, pass, row_key, error, failed_at) VALUES (?, ?, ?, ${pass}, ?, ?, {now})`,
          [this.#scan, this.#scope, unit, JSON.stringify(key), JSON.stringify(error)],
        );
      return true;
    });
  }

  /** Whether this epoch has written that position: what it was asked for before has happened. */
  async isAt(epoch: number, unit: string, position: Position): Promise<boolean> {
    const rows = await this.#database.rows(
      `SELECT 1 FROM ${this.#units} WHERE scan = ? AND scope = ? AND unit = ? AND epoch = ${epoch} AND position = ?`,
      [this.#scan, this.#scope, unit, JSON.stringify(position)],
    );
    return rows.length > 0;
  }

  /** Nothing is left to do. */
  async finish(epoch: number, unit: string): Promise<boolean> {
    return this.#write(this.#database, epoch, unit, "state = 'done', error = NULL", []);
  }

  async fail(epoch: number, unit: string, error: StoredError): Promise<boolean> {
    return this.#write(this.#database, epoch, unit, "state = 'failed', error = ?", [JSON.stringify(error)]);
  }

  /** Says what keeps a unit from going on; it stays open. */
  async note(epoch: number, unit: string, error: StoredError): Promise<void> {
    await this.#write(this.#database, epoch, unit, 'error = ?', [JSON.stringify(error)]);
  }

  units(): Promise<readonly UnitProgress[]> {
    return this.#progress(this.#database, '', []);
  }

  async progress(): Promise<ScanProgress> {
    const [rows, units] = await Promise.all([
      this.#database.rows<{ pass: string; started_at: string | null; ended_at: string | null }>(
        `SELECT ${['pass', 'started_at', 'ended_at'].map((name) => `${this.#database.text(name)} AS ${name}`).join(', ')} FROM ${this.#passes} WHERE scan = ? AND scope = ?`,
        [this.#scan, this.#scope],
      ),
      this.units(),
    ]);
    const date = (ms: string | null | undefined): Date | undefined => (ms ? new Date(Number(ms)) : undefined);
    return { pass: rows[0]?.pass ?? '0', startedAt: date(rows[0]?.started_at), endedAt: date(rows[0]?.ended_at), units };
  }

  /** Ends the pass if all its units have ended. */
  async close(pass: string): Promise<void> {
    await this.#database.run(
      `UPDATE ${this.#passes} SET ended_at = {now} WHERE scan = ? AND scope = ? AND pass = ${pass} AND ended_at IS NULL AND NOT EXISTS (SELECT 1 FROM ${this.#units} u WHERE u.scan = ? AND u.scope = ? AND u.pass = ${pass} AND u.state IN ('todo', 'running'))`,
      [this.#scan, this.#scope, this.#scan, this.#scope],
    );
  }

  async #write(sql: Pick<SqlRunner, 'run'>, epoch: number, unit: string, set: string, params: readonly unknown[]): Promise<boolean> {
    const changed = await sql.run(
      `UPDATE ${this.#units} SET ${set}, updated_at = {now} WHERE scan = ? AND scope = ? AND unit = ? AND epoch = ${epoch} AND state = 'running'`,
      [...params, this.#scan, this.#scope, unit],
    );
    return changed > 0;
  }

  async #progress(sql: Pick<SqlRunner, 'rows'>, more: string, params: readonly unknown[]): Promise<UnitProgress[]> {
    const rows = await sql.rows<Record<string, string | number | null>>(
      `SELECT ${progressColumns} FROM ${this.#units} WHERE scan = ? AND scope = ? ${more} ORDER BY unit`,
      [this.#scan, this.#scope, ...params],
    );
    const parsed = <T>(text: string | number | null | undefined): T | undefined =>
      text === null || text === undefined ? undefined : (JSON.parse(String(text)) as T);
    return rows.map((row) => ({
      unit: String(row.unit),
      state: String(row.state) as UnitState,
      position: parsed<Position>(row.position),
      bound: parsed<Position>(row.bound),
      examined: Number(row.examined),
      matched: Number(row.matched),
      handled: Number(row.handled),
      failed: Number(row.failed),
      remaining: remaining(row),
      perSecond: row.state === 'running' ? Number(row.rate ?? 0) : 0,
      error: parsed<StoredError>(row.error),
    }));
  }
}

function remaining({ state, expected, examined }: Readonly<Record<string, string | number | null>>): number | undefined {
  if (state === 'done' || state === 'failed') return 0;
  return expected === null || expected === undefined ? undefined : Math.max(0, Number(expected) - Number(examined));
}
