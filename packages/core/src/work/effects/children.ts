import type { SqlRunner } from '../../database/sql-runner.ts';
import type { ClaimedRow } from '../row/table-sql.ts';
import type { Outcome } from '../row/verdict.ts';
import type { WorkTable } from '../row/work-table.ts';

/** Names of the parts that parents of a table need. The columns not named here have the same names everywhere. */
export interface ChildrenOptions {
  /** Table of the parents, one row each: `parent_id`, and `total`, which is NULL until all children are written. */
  readonly parentTable: string;
  /** SQL of that table as `f`, for the statement that looks for parents to complete. Default: the table. */
  readonly openParents?: string;
  /** SQL: true for a parent `f` that may not have completed, in the words of an index. Default: all are read. */
  readonly mayBeOpen?: string;
  /** Further columns of that table, which {@link Children.complete} reads. */
  readonly parentColumns: readonly string[];
  /** Table of the counts: `parent_id`, `worker` (the primary key are both), `done`, `failed`, `cancelled`. */
  readonly countTable: string;
  /** Column of the work table in which a completed parent stores its total and counts, as JSON. */
  readonly resultColumn: string;
  /** Parent of a claimed row, or `null`. */
  readonly parent: (row: ClaimedRow) => string | null;
}

/** Counts of a parent's children by how they ended. */
export interface ChildCounts {
  readonly done: number;
  readonly failed: number;
  readonly cancelled: number;
}

/** A row that ended or stopped running, and the parent that counts it; `null` for none. */
export interface ChildRow {
  readonly outcome: Outcome;
  readonly parent: string | null;
}

/** A parent as {@link Children.complete} reads it. */
export type ParentRecord = Readonly<Record<string, string | null>>;

/**
 * Parents and their children, all rows of one table. A parent is BLOCKED, so that no worker claims it, and counts each child in the
 * transaction that ends the child; it is DONE when all children have ended. A parent that is cancelled before that never completes.
 */
export class Children {
  readonly #table: WorkTable;
  readonly #options: ChildrenOptions;

  constructor(table: WorkTable, options: ChildrenOptions) {
    this.#table = table;
    this.#options = options;
  }

  /** Returns the parent of a claimed row, or `null`. */
  parent(row: ClaimedRow): string | null {
    return this.#options.parent(row);
  }

  /** Counts those rows that have ended. Returns the parents whose counts changed. */
  async count(sql: SqlRunner, rows: readonly ChildRow[], counter: string): Promise<string[]> {
    const counts = new Map<string, { done: number; failed: number; cancelled: number }>();
    for (const { parent, outcome } of rows) {
      const name = countOf(outcome);
      if (parent === null || name === undefined) continue;
      const count = counts.get(parent) ?? { done: 0, failed: 0, cancelled: 0 };
      counts.set(parent, count);
      count[name] += 1;
    }
    const parents = [...counts.keys()].sort();
    for (const parent of parents) await this.add(sql, parent, counter, counts.get(parent) ?? {});
    return parents;
  }

  /** Adds to the counts of a parent. One row per parent and worker: with a single row, all workers would wait for each other. */
  async add(sql: SqlRunner, parent: string, counter: string, counts: Partial<ChildCounts>): Promise<void> {
    const { database } = this.#table;
    const mysql = database.family === 'mysql';
    const t = database.table(this.#options.countTable);
    const { done = 0, failed = 0, cancelled = 0 } = counts;
    const add = (name: string, n: number): string => `${name} = ${mysql ? name : `${t}.${name}`} + ${n}`;
    const set = [add('done', done), add('failed', failed), add('cancelled', cancelled)].join(', ');
    const conflict = mysql ? 'ON DUPLICATE KEY UPDATE' : 'ON CONFLICT (parent_id, worker) DO UPDATE SET';
    await sql.run(
      `INSERT INTO ${t} (parent_id, worker, done, failed, cancelled) VALUES (${BigInt(parent)}, ?, ${done}, ${failed}, ${cancelled}) ${conflict} ${set}`,
      [counter],
    );
  }

  /** Reads the counts of a parent. */
  async counts(sql: SqlRunner, parent: string): Promise<ChildCounts> {
    const [row] = await sql.rows<Record<'done' | 'failed' | 'cancelled', string | null>>(
      `SELECT sum(done) AS done, sum(failed) AS failed, sum(cancelled) AS cancelled FROM ${this.#table.database.table(this.#options.countTable)} WHERE parent_id = ${BigInt(parent)}`,
    );
    return { done: Number(row?.done ?? 0), failed: Number(row?.failed ?? 0), cancelled: Number(row?.cancelled ?? 0) };
  }

  /**
   * Ends a parent whose children have all ended, and calls `onCompleted` in the same transaction. A compare-and-set on the parent lets one
   * of many workers that see the last child complete it. Returns the result of `onCompleted`, or `undefined` if this call did not complete
   * the parent.
   */
  complete<Result>(parent: string, onCompleted: (sql: SqlRunner, record: ParentRecord) => Promise<Result>): Promise<Result | undefined> {
    const table = this.#table;
    const { database } = table;
    const { parentTable, parentColumns, resultColumn } = this.#options;
    return database.transaction(async (sql) => {
      const [record] = await sql.rows<Record<string, string | null>>(
        `SELECT ${['total', ...parentColumns].join(', ')} FROM ${database.table(parentTable)} WHERE parent_id = ${BigInt(parent)}`,
      );
      if (!record || record.total === null) return undefined;
      const counts = await this.counts(sql, parent);
      if (counts.done + counts.failed + counts.cancelled < Number(record.total)) return undefined;
      const changed = await sql.run(
        `UPDATE ${database.table(table.shape.table)} SET status = ${table.state('done')}, ${resultColumn} = ?, updated_at = {timestamp} WHERE id = ${BigInt(parent)} AND ${table.pinned('blocked')}`,
        [JSON.stringify({ total: Number(record.total), ...counts })],
      );
      if (changed !== 1) return undefined;
      await this.#forget(sql, parent);
      return onCompleted(sql, record);
    });
  }

  /**
   * Stores total and counts in the row of a parent that was cancelled, as {@link complete} does. Call it once all children have ended: after
   * that the counts do not change.
   */
  async close(sql: SqlRunner, parent: string): Promise<void> {
    const table = this.#table;
    const { database } = table;
    const { parentTable, resultColumn } = this.#options;
    const [record] = await sql.rows<{ total: string | null }>(
      `SELECT total FROM ${database.table(parentTable)} WHERE parent_id = ${BigInt(parent)}`,
    );
    const result = { total: Number(record?.total), ...(await this.counts(sql, parent)) };
    await sql.run(
      `UPDATE ${database.table(table.shape.table)} SET ${resultColumn} = ? WHERE id = ${BigInt(parent)} AND ${table.pinned('cancelled')}`,
      [JSON.stringify(result)],
    );
    await this.#forget(sql, parent);
  }

  /** Deletes the counts of a parent whose row has the sums. */
  async #forget(sql: SqlRunner, parent: string): Promise<void> {
    await sql.run(`DELETE FROM ${this.#table.database.table(this.#options.countTable)} WHERE parent_id = ${BigInt(parent)}`);
  }

  /** Reads the parents whose children are all written and have all ended, and that have not completed. */
  async open(limit: number = 1000): Promise<string[]> {
    const { database, shape } = this.#table;
    const {
      parentTable,
      countTable,
      openParents: parents = `${database.table(parentTable)} f`,
      mayBeOpen = 'f.total IS NOT NULL',
    } = this.#options;
    const rows = await database.rows<{ id: string }>(
      `SELECT ${database.text('f.parent_id')} AS id FROM ${parents} WHERE ${mayBeOpen} AND f.total <= (SELECT COALESCE(sum(c.done + c.failed + c.cancelled), 0) FROM ${database.table(countTable)} c${database.primaryKeyHint} WHERE c.parent_id = f.parent_id) AND (SELECT t.status FROM ${database.table(shape.table)} t WHERE t.id = f.parent_id) = ${this.#table.state('blocked')} ORDER BY f.parent_id LIMIT ${limit}`,
    );
    return rows.map((row) => row.id);
  }
}

/** The count that a row with this outcome adds to; `undefined` if the row has not ended. */
export function countOf(outcome: Outcome): keyof ChildCounts | undefined {
  return outcome === 'done' ? 'done' : outcome === 'dead' ? 'failed' : outcome === 'cancel' ? 'cancelled' : undefined;
}
