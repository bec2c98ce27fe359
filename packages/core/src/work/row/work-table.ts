import type { Database } from '../../database/database.ts';
import type { SqlRunner } from '../../database/sql-runner.ts';
import { type ClaimCap, type ClaimQuery, claimGivenRows, claimRows } from './claim-rows.ts';
import { type PurgeQuery, RowPurge } from './purge-rows.ts';
import { type ReadyGroup, type ReadyQuery, readyGroups } from './ready-groups.ts';
import { heldRows, renewRows } from './renew-rows.ts';
import { type ProgressReport, reportProgress } from './report-progress.ts';
import { type Rescued, type RescueOptions, rescueRows } from './rescue-rows.ts';
import { type SettleHook, type Settlement, settleRows, settleRowsIn } from './settle-rows.ts';
import type { WorkState } from './states.ts';
import { type ClaimedRow, TableSql, type WorkTableShape } from './table-sql.ts';

/** A table of claimable rows; `states.ts` shows their states. Every write names the version under which the row was claimed. */
export class WorkTable {
  readonly database: Database;
  readonly shape: WorkTableShape;
  readonly #sql: TableSql;
  readonly #purge: RowPurge;

  constructor(database: Database, shape: WorkTableShape) {
    this.database = database;
    this.shape = shape;
    this.#sql = new TableSql(database, shape);
    this.#purge = new RowPurge(this.#sql);
  }

  /** The SQL literal of a state. */
  state(state: WorkState): string {
    return this.#sql.state(state);
  }

  /** A comparison of the status for which no index can be used, so that a statement about given ids goes by the primary key. */
  pinned(state: WorkState): string {
    return this.#sql.pinned(state);
  }

  /** The condition that a row ended in a state, in the words of the index of ended rows. `t` is the alias of the table, with its dot. */
  ended(state: WorkState, t?: string): string {
    return this.#sql.ended(state, t);
  }

  /** SCHEDULED rows in the words of their index, and the column with the time at which they are due. */
  get scheduled(): { readonly where: string; readonly due: string } {
    return this.#sql.scheduled;
  }

  /** SQL for the rank of a row that becomes READY at `readyAt` (SQL, in ms). */
  rank(readyAt: string): string {
    return this.#sql.rank(readyAt);
  }

  /** Claims up to `limit` READY rows of one kind, most urgent first, within `cap` if it is given. */
  claim(query: ClaimQuery, cap?: ClaimCap): Promise<readonly ClaimedRow[]> {
    return claimRows(this.#sql, query, cap);
  }

  /** Claims the given rows of one kind that are READY and have lost no start. If it returns none, another worker has claimed them. */
  claimIds(ids: readonly string[], query: Pick<ClaimQuery, 'kind' | 'owner' | 'leaseMs'>, cap?: ClaimCap): Promise<readonly ClaimedRow[]> {
    return claimGivenRows(this.#sql, ids, query, cap);
  }

  /** Finds the pairs of kind and group that have READY rows. */
  ready(query?: ReadyQuery): Promise<ReadyGroup[]> {
    return readyGroups(this.#sql, query);
  }

  /** Writes verdicts, each under the version with which its row was claimed. Returns the ids that were still the caller's. */
  settle(settlements: readonly Settlement[], hook?: SettleHook): Promise<Set<string>> {
    return settleRows(this.#sql, settlements, hook);
  }

  /** Settles in an open transaction (which should do nothing after it). Returns the ids that were still the caller's. */
  settleIn(sql: SqlRunner, settlements: readonly Settlement[]): Promise<Set<string>> {
    return settleRowsIn(this.#sql, sql, settlements);
  }

  /** Prolongs the leases of `owner`'s rows; it skips locked rows, or waits for them. Returns the version of each renewed row, by id. */
  renew(ids: readonly string[], owner: string, leaseMs: number, locked?: 'skip' | 'wait'): Promise<Map<string, number>> {
    return renewRows(this.#sql, ids, owner, leaseMs, locked);
  }

  /** Reads which of the rows are RUNNING for `owner`. Returns their versions, by id. Takes no locks. */
  held(ids: readonly string[], owner: string): Promise<Map<string, number>> {
    return heldRows(this.#sql, ids, owner);
  }

  /** Writes what runs report, each under the version with which its row was claimed. Costs no attempt. */
  report(reports: readonly ProgressReport[]): Promise<void> {
    return reportProgress(this.#sql, reports);
  }

  /** Takes back rows whose lease has expired. Returns how many are READY again and how many were given up. */
  rescue(options: RescueOptions): Promise<Rescued> {
    return rescueRows(this.#sql, options);
  }

  /**
   * Makes SCHEDULED rows that are due READY, earliest first. Returns their number. Index: `(run_at)` of SCHEDULED rows. With `backMs`, only
   * rows that became due within the last `backMs`.
   */
  async promote(limit: number = 1000, backMs?: number): Promise<number> {
    const work = this.#sql;
    const set = `status = ${work.state('ready')}, claim_rank = ${work.rank('run_at')}, updated_at = {timestamp}`;
    // Rows that have lost a start become READY too, as the suspects that they are: a suspect can be rescheduled.
    const { where, due } = work.scheduled;
    const since = dueSince(due, backMs);
    const first = { where: `${where} AND ${due} <= {now}${since.sql}`, order: `ORDER BY ${due} LIMIT ${limit}` };
    const pick = `SELECT id FROM ${work.table} WHERE ${first.where} ${first.order}`;
    if (this.database.family === 'postgres')
      return this.database.run(`UPDATE ${work.table} SET ${set} WHERE id = ANY(ARRAY(${pick} FOR UPDATE SKIP LOCKED))`, since.params);
    if (this.database.family === 'sqlite') return this.database.run(`UPDATE ${work.table} SET ${set} WHERE id IN (${pick})`, since.params);
    const ids = await work.readIds(first.where, since.params, first.order);
    if (ids.length === 0) return 0;
    return this.database.transaction(async (sql) => {
      const rows = await sql.rows<{ id: string }>(
        `SELECT ${work.idText} FROM ${work.table}${this.database.primaryKeyHint} WHERE ${work.ids(ids).sql} AND status = ${work.state('scheduled')} AND run_at <= {now} FOR UPDATE SKIP LOCKED`,
      );
      if (rows.length === 0) return 0;
      return sql.run(`UPDATE ${work.table}${this.database.primaryKeyHint} SET ${set} WHERE ${work.ids(rows.map((row) => row.id)).sql}`);
    });
  }

  /**
   * Returns the time until the next SCHEDULED row is due, in ms (0 or less: it is due), or `undefined` if there is none. With `backMs`, it
   * passes over rows that became due longer ago.
   */
  async nextDueMs(backMs?: number): Promise<number | undefined> {
    const work = this.#sql;
    const { where, due } = work.scheduled;
    const since = dueSince(due, backMs);
    const [row] = await this.database.rows<{ ms: string | number | null }>(
      `SELECT ${due} - {now} AS ms FROM ${work.table} WHERE ${where} AND ${due} IS NOT NULL${since.sql} ORDER BY ${due} LIMIT 1`,
      since.params,
    );
    return row?.ms === null || row?.ms === undefined ? undefined : Number(row.ms);
  }

  /**
   * Deletes the rows of a kind that ended in a state and last changed longer ago than `olderThanMs`: see `RowPurge`. Returns their number.
   */
  purge(query: PurgeQuery): Promise<number> {
    return this.#purge.purge(query);
  }
}

/** The condition that a row became due within the last `backMs`, if that is given. */
function dueSince(due: string, backMs: number | undefined): { readonly sql: string; readonly params: readonly unknown[] } {
  return backMs === undefined ? { sql: '', params: [] } : { sql: ` AND ${due} >= {now} - ?`, params: [backMs] };
}
