import { type Database, Slots, type SqlRunner } from '@holdfast/core';
import { NotFoundError } from '../errors.ts';
import { isId, shownId } from '../row-ids.ts';
import { type Change, changeRun, type Held } from './change-run.ts';
import { type Claimed, claimRuns } from './claim-runs.ts';
import type { Pool } from './limits.ts';
import { type ListedRow, listedColumns, listedOf, type Output, type RawRun, type RunRow, runColumns, runOf } from './run.ts';
import { type NewEvent, newStateEvent } from './run-events.ts';
import { type Ending, type Phase, stateOf } from './states.ts';
import { type Submission, submitRun } from './submit-run.ts';

/** The id names its table: the column of the result is the id as text, and would put 10 before 9. */
const orders = { oldest: 'r.id', newest: 'r.id DESC', queue: 'priority DESC, r.id' } as const;

/** The first rows in an order: by age, or as the queue gives them slots. */
export interface Page {
  readonly order: keyof typeof orders;
  readonly limit: number;
}

/**
 * The rows of runs. Every change names the phase and the fence that it was decided for, and appends its event in the same
 * transaction. If another worker was first, zero rows match and nothing changes.
 */
export class RunTable {
  readonly database: Database;
  readonly slots: Slots;
  readonly #runs: string;
  readonly #events: string;

  constructor(database: Database) {
    this.database = database;
    this.slots = new Slots(database);
    this.#runs = database.table('runner_run');
    this.#events = database.table('runner_event');
  }

  /** @throws NotFoundError */
  async get(id: string, sql: Pick<SqlRunner, 'rows'> = this.database): Promise<RunRow> {
    const run = await this.find(id, sql);
    if (!run) throw new NotFoundError(`There is no run ${shownId(id)}.`);
    return run;
  }

  async find(id: string, sql: Pick<SqlRunner, 'rows'> = this.database): Promise<RunRow | undefined> {
    if (!isId(id)) return undefined;
    const [row] = await sql.rows<RawRun>(`SELECT ${runColumns(this.database)} FROM ${this.#runs} WHERE id = ?`, [id]);
    return row && runOf(row);
  }

  /** Rows by an SQL condition, without their output files, all of them unless a `page` is named. The condition is trusted; values go into `params`. */
  async where(condition: string, params: readonly unknown[], page?: Page): Promise<ListedRow[]> {
    const cut = page === undefined ? '' : ` ORDER BY ${orders[page.order]} LIMIT ${Math.trunc(page.limit)}`;
    const rows = await this.database.rows<RawRun>(
      `SELECT ${listedColumns(this.database)} FROM ${this.#runs} r WHERE ${condition}${cut}`,
      params,
    );
    return rows.map(listedOf);
  }

  /**
   * Puts a run into the queue: the draft of the task, or a new row.
   * @throws LiveRunError if the actor has a run of this task that has not ended
   */
  submit(sql: SqlRunner, submission: Submission): Promise<RunRow> {
    return submitRun(this.database, sql, submission);
  }

  /** Claims queued runs of a pool for a worker: see {@link claimRuns}. */
  claim(pool: Pool, worker: string, wanted: number): Promise<Claimed> {
    return claimRuns(this.database, pool, worker, wanted);
  }

  /** Moves a run to another phase. Returns `undefined` if the run is no longer as `held` says or, with `unless`, is to stop. */
  move(
    held: Held,
    to: Phase,
    more: { readonly set?: Readonly<Record<string, unknown>>; readonly now?: 'started_at'; readonly unless?: 'stopped' } = {},
  ): Promise<RunRow | undefined> {
    const columns = Object.entries(more.set ?? {});
    const set = [
      `phase = '${to}'`,
      `state = ${stateOf(to)}`,
      ...columns.map(([column]) => `${column} = ?`),
      ...(more.now ? [`${more.now} = {now}`] : []),
    ];
    return this.#change(held, {
      set,
      params: columns.map(([, value]) => value),
      events: [newStateEvent(to, null)],
      unlessStopped: more.unless === 'stopped',
    });
  }

  /**
   * Ends a run for good: frees its slot, and lets its actor run the task again. Returns `undefined` if the run is no longer as `held`
   * says.
   */
  end(held: Held, ending: Ending, output?: Output): Promise<RunRow | undefined> {
    return this.#change(held, { ...ended(ending, output), events: [newStateEvent('terminal', ending)] });
  }

  /** Moves a run through `collecting` to its end in one step, after everything was collected. */
  collected(held: Held, ending: Ending, output: Output, more: { readonly unless?: 'stopped' }): Promise<RunRow | undefined> {
    const events = [newStateEvent('collecting', null), newStateEvent('terminal', ending)];
    return this.#change(held, { ...ended(ending, output), events, unlessStopped: more.unless === 'stopped' });
  }

  /** Puts a run whose program was not started back into the queue, as another attempt. */
  requeue(held: Held): Promise<RunRow | undefined> {
    const set = [
      "phase = 'queued'",
      'state = 1',
      'worker = NULL',
      'claimed_at = NULL',
      'started_at = NULL',
      'attempt = attempt + 1',
      'fence = fence + 1',
    ];
    return this.#change(held, { set, params: [], events: [newStateEvent('queued', null)], unlessStopped: true, freesSlot: true });
  }

  /** Gives a run to another worker. Later writes of the previous worker are refused by the fence. */
  adopt(held: Held, worker: string): Promise<RunRow | undefined> {
    return this.#change(held, { set: ['worker = ?', 'fence = fence + 1'], params: [worker], events: [] });
  }

  /**
   * Records that a run is to stop, and returns its row. `wasFirst` is true if this call recorded it; then `also` ran in the transaction.
   */
  async wantStopped(
    id: string,
    by: string,
    also?: (sql: SqlRunner) => Promise<void>,
  ): Promise<{ readonly run: RunRow; readonly wasFirst: boolean }> {
    return this.database.transaction(async (sql) => {
      const changed = await sql.run(
        `UPDATE ${this.#runs} SET desired = 'stopped', stopped_by = ?, stop_at = {now} WHERE id = ? AND desired = 'running' AND phase NOT IN ('draft', 'collecting', 'terminal')`,
        [by, id],
      );
      if (changed > 0) await also?.(sql);
      return { run: await this.get(id, sql), wasFirst: changed > 0 };
    });
  }

  /**
   * Appends to a run's log after its first `from` bytes. Returns false if the run is no longer as `held` says. A retry after a lost
   * reply does not append again.
   */
  async log(
    held: Held,
    events: readonly NewEvent[],
    more: { readonly position: string; readonly from: number; readonly bytes: number },
  ): Promise<boolean> {
    const set = ['log_bytes = log_bytes + ?', 'log_position = ?'];
    const done = await this.#change(held, {
      set,
      params: [more.bytes, more.position],
      events,
      and: `log_bytes = ${Math.trunc(more.from)}`,
    });
    if (done) return true;
    const run = await this.find(held.id);
    return run?.fence === held.fence && held.phases.includes(run.phase) && run.logBytes === more.from + more.bytes;
  }

  /** Records that a log is in one object, and deletes its event rows. */
  async packed(run: ListedRow, index: string): Promise<void> {
    const update = `UPDATE ${this.#runs} SET log_packed = 1, log_index = ? WHERE id = ? AND phase = 'terminal' AND log_packed = 0 AND last_seq = ?`;
    const params = [index, run.id, run.lastSeq];
    if (this.database.family === 'postgres') {
      await this.database.run(`WITH u AS (${update} RETURNING id) DELETE FROM ${this.#events} AS e USING u WHERE e.run_id = u.id`, params);
      return;
    }
    await this.database.transaction(async (sql) => {
      const packed = await sql.run(update, params);
      if (packed > 0) await sql.run(`DELETE FROM ${this.#events} WHERE run_id = ?`, [run.id]);
    });
  }

  /** Returns the index of a packed log, as JSON. */
  async logIndex(id: string): Promise<string> {
    const [row] = await this.database.rows<{ log_index: string | null }>(`SELECT log_index FROM ${this.#runs} WHERE id = ?`, [id]);
    return row?.log_index ?? '[]';
  }

  #change(held: Held, change: Change): Promise<RunRow | undefined> {
    return changeRun(this.database, held, change);
  }
}

/** The columns that the end of a run sets. */
function ended(ending: Ending, output: Output | undefined): Pick<Change, 'set' | 'params' | 'freesSlot'> {
  const set = {
    state: ending.state,
    reason: ending.reason,
    message: ending.message,
    exit_code: ending.exitCode ?? null,
    exit_signal: ending.signal ?? null,
    used: ending.usage ? JSON.stringify(ending.usage) : null,
    output: output ? JSON.stringify(output) : null,
    active_key: null,
  };
  return {
    set: ["phase = 'terminal'", 'ended_at = {now}', ...Object.keys(set).map((column) => `${column} = ?`)],
    params: Object.values(set),
    freesSlot: true,
  };
}
