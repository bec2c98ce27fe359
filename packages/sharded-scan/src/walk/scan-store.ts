import { type Database, forUpdate, insertIgnore, type SqlRunner, type StoredError } from '@holdfast/core';
import { FailedRows, type RowFailure } from './failed-rows.ts';
import type { Position } from './keyset.ts';
import type { ScanProgress, UnitProgress, UnitState } from './progress.ts';

/** The result of a batch. */
export interface BatchCounts {
  readonly examined: number;
  readonly matched: number;
  readonly handled: number;
  readonly failures: readonly RowFailure[];
}

/** The data written after a batch. */
export interface Checkpoint {
  readonly epoch: number;
  readonly unit: string;
  readonly pass: string;
  /** Every row up to this position is handled. */
  readonly position: Position;
  readonly counts: BatchCounts;
  /** Rows per second. */
  readonly rate: number;
  /** The batch was the unit's last: the unit is done. */
  readonly last: boolean;
  /** With the first checkpoint of a unit: the position at which it ends, and its approximate number of rows. */
  readonly begun: { readonly bound: Position; readonly expected: number | undefined } | undefined;
}

const progressColumns = 'unit, state, position, bound, expected, rate, examined, matched, handled, failed, error';
const unitsPerInsert = 500;
/** What a unit is at the beginning of a pass. */
const fromTheBeginning =
  "state = 'todo', position = NULL, bound = NULL, expected = NULL, rate = NULL, examined = 0, matched = 0, handled = 0, failed = 0, error = NULL, started_at = NULL, updated_at = {now}";

/**
 * The passes and checkpoints of one scan and scope. Each unit's row holds the epoch of the lease under which the unit was last begun, and
 * every write of a walk is conditional on its own epoch: after another instance has begun the unit, the writes of the former change
 * nothing.
 */
export class ScanStore {
  readonly #database: Database;
  readonly #scan: string;
  readonly #scope: string;
  readonly #passes: string;
  readonly #units: string;
  /** The rows that failed. */
  readonly failed: FailedRows;

  constructor(database: Database, scan: string, scope: string) {
    this.#database = database;
    this.#scan = scan;
    this.#scope = scope;
    this.#passes = database.table('scan_pass');
    this.#units = database.table('scan_unit');
    this.failed = new FailedRows(database, scan, scope);
  }

  /** Joins the pass that is in progress or interrupted; begins the next pass if there is none. */
  async open(units: readonly string[]): Promise<{ readonly pass: string; readonly resumed: boolean }> {
    const ids = [this.#scan, this.#scope];
    const lock = forUpdate(this.#database);
    return this.#database.transaction(async (sql) => {
      await sql.run(insertIgnore(this.#database, this.#passes, ['scan', 'scope']), ids);
      const [row] = await sql.rows<{ pass: string; open: number | string }>(
        `SELECT ${this.#database.text('pass')} AS pass, CASE WHEN started_at IS NOT NULL AND ended_at IS NULL THEN 1 ELSE 0 END AS open FROM ${this.#passes} WHERE scan = ? AND scope = ?${lock}`,
        ids,
      );
      const known = row?.pass ?? '0';
      const resumed = Number(row?.open) === 1;
      const pass = resumed ? known : String(BigInt(known) + 1n);
      if (!resumed)
        await sql.run(`UPDATE ${this.#passes} SET pass = ${pass}, started_at = {now}, ended_at = NULL WHERE scan = ? AND scope = ?`, ids);
      const rows = await sql.rows<{ unit: string }>(`SELECT unit FROM ${this.#units} WHERE scan = ? AND scope = ?`, ids);
      const stored = new Set(rows.map(({ unit }) => unit));
      // Units that are no longer in the topology would never end.
      for (const unit of stored)
        if (!units.includes(unit)) await sql.run(`DELETE FROM ${this.#units} WHERE scan = ? AND scope = ? AND unit = ?`, [...ids, unit]);
      const added = units.filter((unit) => !stored.has(unit));
      for (let from = 0; from < added.length; from += unitsPerInsert) {
        const some = added.slice(from, from + unitsPerInsert);
        await sql.run(
          `INSERT INTO ${this.#units} (scan, scope, unit, pass, state) VALUES ${some.map(() => `(?, ?, ?, ${pass}, 'todo')`).join(', ')}`,
          some.flatMap((unit) => [...ids, unit]),
        );
      }
      if (resumed) return { pass, resumed };
      await this.failed.purge(sql, pass);
      // The epoch is kept, because the epochs of a lease only grow.
      await sql.run(`UPDATE ${this.#units} SET pass = ${pass}, ${fromTheBeginning} WHERE scan = ? AND scope = ?`, ids);
      return { pass, resumed: false };
    });
  }

  /**
   * Begins or resumes a unit under its lease; returns `undefined` if the unit has ended or was begun under a later epoch. Epochs of a lease
   * only grow, so a late call by a former holder changes nothing.
   */
  async begin(epoch: number, unit: string, pass: string): Promise<UnitProgress | undefined> {
    await this.#database.run(
      `UPDATE ${this.#units} SET epoch = ${epoch}, state = 'running', started_at = COALESCE(started_at, {now}), updated_at = {now} WHERE scan = ? AND scope = ? AND unit = ? AND pass = ${pass} AND epoch < ${epoch} AND state IN ('todo', 'running')`,
      [this.#scan, this.#scope, unit],
    );
    return (await this.#progress(this.#database, `AND unit = ? AND epoch = ${epoch} AND state = 'running'`, [unit]))[0];
  }

  /** Writes the progress and the failures of a batch. Returns whether the unit is still this epoch's; if not, nothing is written. */
  async checkpoint({ epoch, unit, pass, position, counts, rate, last, begun }: Checkpoint): Promise<boolean> {
    const { examined, matched, handled, failures } = counts;
    const params = [...(begun ? [JSON.stringify(begun.bound), begun.expected ?? null] : []), JSON.stringify(position)];
    const set = `${begun ? 'bound = ?, expected = ?, ' : ''}position = ?, rate = ${rate}, examined = examined + ${examined}, matched = matched + ${matched}, handled = handled + ${handled}, failed = failed + ${failures.length}${last ? ", state = 'done', error = NULL" : ''}`;
    if (failures.length === 0) return this.#writeAs(this.#database, epoch, unit, set, params);
    return this.#database.transaction(async (sql) => {
      if (!(await this.#writeAs(sql, epoch, unit, set, params))) return false;
      await this.failed.add(sql, unit, pass, failures);
      return true;
    });
  }

  /** True if this epoch has written that position: a checkpoint whose answer was lost had succeeded. */
  async isAt(epoch: number, unit: string, position: Position): Promise<boolean> {
    const rows = await this.#database.rows(
      `SELECT 1 FROM ${this.#units} WHERE scan = ? AND scope = ? AND unit = ? AND epoch = ${epoch} AND position = ?`,
      [this.#scan, this.#scope, unit, JSON.stringify(position)],
    );
    return rows.length > 0;
  }

  /** Ends a unit that has no rows left. Returns whether the unit is still this epoch's. */
  async finish(epoch: number, unit: string): Promise<boolean> {
    return this.#writeAs(this.#database, epoch, unit, "state = 'done', error = NULL", []);
  }

  /** Ends a unit with an error. Returns whether the unit is still this epoch's. */
  async fail(epoch: number, unit: string, error: StoredError): Promise<boolean> {
    return this.#writeAs(this.#database, epoch, unit, "state = 'failed', error = ?", [JSON.stringify(error)]);
  }

  /** Stores the error that interrupted a unit; the unit stays open. */
  async noteError(epoch: number, unit: string, error: StoredError): Promise<void> {
    await this.#writeAs(this.#database, epoch, unit, 'error = ?', [JSON.stringify(error)]);
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

  /** Ends the pass if every unit has ended. */
  async close(pass: string): Promise<void> {
    await this.#database.run(
      `UPDATE ${this.#passes} SET ended_at = {now} WHERE scan = ? AND scope = ? AND pass = ${pass} AND ended_at IS NULL AND NOT EXISTS (SELECT 1 FROM ${this.#units} u WHERE u.scan = ? AND u.scope = ? AND u.pass = ${pass} AND u.state IN ('todo', 'running'))`,
      [this.#scan, this.#scope, this.#scan, this.#scope],
    );
  }

  /**
   * Reopens the failed and the cancelled units of a pass that has ended, so that the next run resumes them. Returns whether there were any. An
   * open pass is left as it is: on Postgres a `close` that began before could end it with units to do.
   */
  async reopen(sql: SqlRunner): Promise<boolean> {
    if (!(await this.#lockPass(sql, 'ended_at IS NOT NULL'))) return false;
    // Position and bound stay: the walk continues after the last checkpoint.
    const units = await sql.run(
      `UPDATE ${this.#units} SET state = 'todo', updated_at = {now} WHERE scan = ? AND scope = ? AND state IN ('failed', 'cancelled')`,
      [this.#scan, this.#scope],
    );
    if (units > 0) await this.#writePass(sql, 'ended_at = NULL');
    return units > 0;
  }

  /** Ends an open pass: its units that have not ended are cancelled, and later writes of their walks refused. Returns whether it was open. */
  async cancel(sql: SqlRunner): Promise<boolean> {
    if (!(await this.#lockPass(sql, 'started_at IS NOT NULL AND ended_at IS NULL'))) return false;
    await sql.run(
      `UPDATE ${this.#units} SET state = 'cancelled', updated_at = {now} WHERE scan = ? AND scope = ? AND state IN ('todo', 'running')`,
      [this.#scan, this.#scope],
    );
    await this.#writePass(sql, 'ended_at = {now}');
    return true;
  }

  /** Begins the latest pass again, under its number: every unit from its first row. Returns whether there is a pass. */
  async reset(sql: SqlRunner): Promise<boolean> {
    if (!(await this.#lockPass(sql, 'started_at IS NOT NULL'))) return false;
    const ids = [this.#scan, this.#scope];
    await this.failed.deleteLatest(sql);
    // The epoch is kept: the writes of a walk that is under way are refused, since its unit is not running.
    await sql.run(`UPDATE ${this.#units} SET ${fromTheBeginning} WHERE scan = ? AND scope = ?`, ids);
    await this.#writePass(sql, 'started_at = {now}, ended_at = NULL');
    return true;
  }

  /** Locks the pass, if it is as `condition` says: the pass before its units, as in open and close. */
  async #lockPass(sql: SqlRunner, condition: string): Promise<boolean> {
    const lock = forUpdate(this.#database);
    const rows = await sql.rows(`SELECT 1 FROM ${this.#passes} WHERE scan = ? AND scope = ? AND ${condition}${lock}`, [
      this.#scan,
      this.#scope,
    ]);
    return rows.length > 0;
  }

  async #writePass(sql: SqlRunner, set: string): Promise<void> {
    await sql.run(`UPDATE ${this.#passes} SET ${set} WHERE scan = ? AND scope = ?`, [this.#scan, this.#scope]);
  }

  /** Runs a transaction on the state database. */
  transaction<T>(fn: (sql: SqlRunner) => Promise<T>): Promise<T> {
    return this.#database.transaction(fn);
  }

  /** Writes a unit's row if it is still running under `epoch`. Returns whether it was. */
  async #writeAs(sql: Pick<SqlRunner, 'run'>, epoch: number, unit: string, set: string, params: readonly unknown[]): Promise<boolean> {
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
  if (state === 'done' || state === 'failed' || state === 'cancelled') return 0;
  return expected === null || expected === undefined ? undefined : Math.max(0, Number(expected) - Number(examined));
}
