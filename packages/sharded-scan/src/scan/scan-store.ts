import { type Database, type Executor, insertIgnore, type Lease, type LeaseTable, type StoredError } from '@holdfast/core';
import type { Position } from './keyset.ts';

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
  readonly error: StoredError | undefined;
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

const progressColumns = 'unit, state, position, bound, examined, matched, handled, failed, error';

/**
 * Passes and checkpoints of one scan and scope. Each unit's row carries the epoch of the lease that it was last taken under, and every
 * write of a walk names its own: what one says after another has taken the unit changes nothing.
 */
export class ScanStore {
  readonly #database: Database;
  readonly #leases: LeaseTable;
  readonly #scan: string;
  readonly #scope: string;
  readonly #passes: string;
  readonly #units: string;

  constructor(database: Database, leases: LeaseTable, scan: string, scope: string) {
    this.#database = database;
    this.#leases = leases;
    this.#scan = scan;
    this.#scope = scope;
    this.#passes = database.table('scan_pass');
    this.#units = database.table('scan_unit');
  }

  /** Joins the pass that is under way, or was broken off; begins the next one if there is none. */
  async open(units: readonly string[]): Promise<{ readonly pass: string; readonly resumed: boolean }> {
    const of = [this.#scan, this.#scope];
    const lock = this.#database.family === 'sqlite' ? '' : ' FOR UPDATE';
    return this.#database.transaction(async (x) => {
      await x.run(insertIgnore(this.#database, this.#passes, ['scan', 'scope']), of);
      const [row] = await x.rows<{ pass: string; open: number | string }>(
        `SELECT ${this.#database.text('pass')} AS pass, CASE WHEN started_at IS NOT NULL AND ended_at IS NULL THEN 1 ELSE 0 END AS open FROM ${this.#passes} WHERE scan = ? AND scope = ?${lock}`,
        of,
      );
      const known = row?.pass ?? '0';
      const resumed = Number(row?.open) === 1;
      const pass = resumed ? known : String(BigInt(known) + 1n);
      if (!resumed)
        await x.run(`UPDATE ${this.#passes} SET pass = ${pass}, started_at = {now}, ended_at = NULL WHERE scan = ? AND scope = ?`, of);
      // Units that the topology has no more would never end.
      await x.run(`DELETE FROM ${this.#units} WHERE scan = ? AND scope = ? AND unit NOT IN (${units.map(() => '?').join(', ')})`, [
        ...of,
        ...units,
      ]);
      for (const unit of units)
        await x.run(insertIgnore(this.#database, this.#units, ['scan', 'scope', 'unit', 'pass', 'state']), [...of, unit, pass, 'todo']);
      if (resumed) return { pass, resumed };
      // The epoch stays: it only grows.
      await x.run(
        `UPDATE ${this.#units} SET pass = ${pass}, state = 'todo', position = NULL, bound = NULL, examined = 0, matched = 0, handled = 0, failed = 0, error = NULL, started_at = NULL, updated_at = {now} WHERE scan = ? AND scope = ?`,
        of,
      );
      return { pass, resumed: false };
    });
  }

  /** Takes a unit under its lease. @throws LeaseLostError if the lease has passed to another */
  async begin(lease: Lease, unit: string, pass: string): Promise<UnitProgress | undefined> {
    return this.#database.transaction(async (x) => {
      await this.#leases.fence(x, lease);
      const changed = await x.run(
        `UPDATE ${this.#units} SET epoch = ${lease.epoch}, state = 'running', started_at = COALESCE(started_at, {now}), updated_at = {now} WHERE scan = ? AND scope = ? AND unit = ? AND pass = ${pass} AND state IN ('todo', 'running')`,
        [this.#scan, this.#scope, unit],
      );
      if (changed === 0) return undefined;
      return (await this.#progress(x, 'AND unit = ?', [unit]))[0];
    });
  }

  async setBound(epoch: number, unit: string, bound: Position): Promise<boolean> {
    return this.#write(this.#database, epoch, unit, 'bound = ?', [JSON.stringify(bound)]);
  }

  /** Everything up to `position` is handled. Returns whether the unit is still ours. */
  async checkpoint(epoch: number, unit: string, pass: string, position: Position, counts: BatchCounts): Promise<boolean> {
    const { examined, matched, handled, failures } = counts;
    const set = `position = ?, examined = examined + ${examined}, matched = matched + ${matched}, handled = handled + ${handled}, failed = failed + ${failures.length}`;
    if (failures.length === 0) return this.#write(this.#database, epoch, unit, set, [JSON.stringify(position)]);
    return this.#database.transaction(async (x) => {
      if (!(await this.#write(x, epoch, unit, set, [JSON.stringify(position)]))) return false;
      for (const { key, error } of failures)
        await x.run(
          `INSERT INTO ${this.#database.table('scan_failure')} (scan, scope, unit, pass, row_key, error, failed_at) VALUES (?, ?, ?, ${pass}, ?, ?, {now})`,
          [this.#scan, this.#scope, unit, JSON.stringify(key), JSON.stringify(error)],
        );
      return true;
    });
  }

  async finish(epoch: number, unit: string, state: 'done' | 'failed', error: StoredError | undefined): Promise<boolean> {
    return this.#write(this.#database, epoch, unit, 'state = ?, error = ?', [state, error === undefined ? null : JSON.stringify(error)]);
  }

  /** Says what keeps a unit from going on; it stays open. */
  async note(epoch: number, unit: string, error: StoredError): Promise<void> {
    await this.#write(this.#database, epoch, unit, 'error = ?', [JSON.stringify(error)]);
  }

  progress(): Promise<readonly UnitProgress[]> {
    return this.#progress(this.#database, '', []);
  }

  /** Ends the pass if all its units have ended. */
  async close(pass: string): Promise<void> {
    await this.#database.run(
      `UPDATE ${this.#passes} SET ended_at = {now} WHERE scan = ? AND scope = ? AND pass = ${pass} AND ended_at IS NULL AND NOT EXISTS (SELECT 1 FROM ${this.#units} u WHERE u.scan = ? AND u.scope = ? AND u.pass = ${pass} AND u.state IN ('todo', 'running'))`,
      [this.#scan, this.#scope, this.#scan, this.#scope],
    );
  }

  async #write(x: Pick<Executor, 'run'>, epoch: number, unit: string, set: string, params: readonly unknown[]): Promise<boolean> {
    const changed = await x.run(
      `UPDATE ${this.#units} SET ${set}, updated_at = {now} WHERE scan = ? AND scope = ? AND unit = ? AND epoch = ${epoch} AND state = 'running'`,
      [...params, this.#scan, this.#scope, unit],
    );
    return changed > 0;
  }

  async #progress(x: Pick<Executor, 'rows'>, more: string, params: readonly unknown[]): Promise<UnitProgress[]> {
    const rows = await x.rows<Record<string, string | number | null>>(
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
      error: parsed<StoredError>(row.error),
    }));
  }
}
