import { activeTraceparent, type Database, type Executor, Slots, updateFromValues, uuidv7 } from '@holdfast/core';
import { LiveRunError, NotFoundError } from '../errors.ts';
import { insertRow, isId } from '../insert-row.ts';
import { sha256 } from '../store/spool.ts';
import type { Pool, RunLimits } from './limits.ts';
import { type Output, type RawRun, type RunRow, runColumns, runOf } from './run.ts';
import { type Ending, type Phase, stateOf } from './states.ts';

/** What is asked for at a submit, checked. */
export interface Submission {
  readonly taskId: string;
  readonly actor: string;
  readonly draftRunId: string | null;
  readonly pool: string;
  readonly priority: number;
  readonly language: string;
  readonly main: string;
  readonly argv: readonly string[] | null;
  readonly remarks: string | null;
  readonly limits: RunLimits;
  readonly manifestHash: string;
  readonly queueMs: number;
}

/** An event that is appended: a change of state, or what a program printed. */
export interface NewEvent {
  readonly kind: 'state' | 'stdout' | 'stderr' | 'marker';
  readonly content: Uint8Array;
}

/** Who may write: the run in this phase, under this fence. */
export interface Held {
  readonly id: string;
  readonly fence: number;
  readonly phases: readonly Phase[];
}

/**
 * The runs' rows. Every change names the phase and the fence that it was decided under, and appends its event in the same
 * transaction; zero rows changed: somebody else was first, and nothing has happened.
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
  async get(id: string, x: Pick<Executor, 'rows'> = this.database): Promise<RunRow> {
    const run = await this.find(id, x);
    if (!run) throw new NotFoundError(`There is no run ${String(id).slice(0, 40)}.`);
    return run;
  }

  async find(id: string, x: Pick<Executor, 'rows'> = this.database): Promise<RunRow | undefined> {
    if (!isId(id)) return undefined;
    const [row] = await x.rows<RawRun>(`SELECT ${runColumns(this.database)} FROM ${this.#runs} WHERE id = ?`, [id]);
    return row && runOf(row);
  }

  /** Rows by a condition, which is ours. */
  async where(condition: string, params: readonly unknown[], x: Pick<Executor, 'rows'> = this.database): Promise<RunRow[]> {
    const rows = await x.rows<RawRun>(`SELECT ${runColumns(this.database)} FROM ${this.#runs} WHERE ${condition}`, params);
    return rows.map(runOf);
  }

  /**
   * Puts a run into the queue: the task's draft, or a new one.
   * @throws LiveRunError if the actor has one of this task that has not ended
   */
  async submit(x: Executor, s: Submission): Promise<RunRow> {
    const activeKey = sha256(`${s.taskId}/${s.actor}`);
    const [live] = await x.rows<{ id: string }>(`SELECT ${this.database.text('id')} AS id FROM ${this.#runs} WHERE active_key = ?`, [
      activeKey,
    ]);
    if (live)
      throw new LiveRunError(`You have a run of this task that has not ended (${live.id}). Wait for it, or stop it first.`, live.id);
    const [{ now: text } = { now: 0 }] = await x.rows<{ now: string | number }>('SELECT {now} AS now');
    const now = Number(text);
    const values = {
      actor: s.actor,
      active_key: activeKey,
      phase: 'queued',
      state: 1,
      pool: s.pool,
      priority: s.priority,
      language: s.language,
      main_path: s.main,
      argv: s.argv === null ? null : JSON.stringify(s.argv),
      remarks: s.remarks,
      limits: JSON.stringify(s.limits),
      memory_bytes: s.limits.memoryBytes,
      manifest_hash: s.manifestHash,
      submitted_at: now,
      queue_deadline: now + s.queueMs,
      traceparent: activeTraceparent(),
    };
    let id = s.draftRunId;
    try {
      if (id === null) {
        id = await insertRow(x, this.#runs, { ...values, task_id: s.taskId, created_at: now, job_uid: uuidv7().replaceAll('-', '') });
      } else {
        const columns = Object.keys(values);
        await x.run(`UPDATE ${this.#runs} SET ${columns.map((column) => `${column} = ?`).join(', ')} WHERE id = ? AND phase = 'draft'`, [
          ...Object.values(values),
          id,
        ]);
      }
    } catch (error) {
      if (isDuplicate(error)) throw new LiveRunError('You have a run of this task that has not ended. Wait for it, or stop it first.');
      throw error;
    }
    await this.append(x, id, [stateEvent('queued', null)]);
    return this.get(id, x);
  }

  /**
   * Takes the best runs that wait in a pool: as many as are wanted, as slots are free, and as the pool's memory allows. Slots,
   * runs and attempts change in one transaction.
   *
   * The order is the rows': priority, then age. One that does not fit into the memory that is left is waited for; otherwise small
   * runs would keep a large one out for ever.
   */
  async claim(pool: Pool, worker: string, wanted: number): Promise<{ readonly runs: readonly RunRow[]; readonly free: number }> {
    if (wanted < 1) return { runs: [], free: 0 };
    const scope = slotScope(pool.name);
    // Without a look at the slots' rows, which are locked in the transaction, most claims would find nothing.
    return this.database.transaction(async (x) => {
      const free = await this.slots.lockFree(x, scope, wanted);
      if (free.length === 0) return { runs: [], free: 0 };
      const lock = this.database.family === 'sqlite' ? '' : ' FOR UPDATE SKIP LOCKED';
      const rows = await x.rows<RawRun & { memory_bytes: string | number }>(
        `SELECT ${runColumns(this.database)}, ${this.database.text('memory_bytes')} AS memory_bytes FROM ${this.#runs} WHERE phase = 'queued' AND pool = ? AND desired = 'running' ORDER BY priority DESC, id LIMIT ${free.length}${lock}`,
        [pool.name],
      );
      let taken = rows;
      if (pool.memoryBytes !== undefined && rows.length > 0) {
        // Claims of a pool with a budget go one at a time: its first slot's row is the lock.
        if (this.database.family !== 'sqlite')
          await x.rows(`SELECT slot FROM ${this.database.table('holdfast_slot')} WHERE scope = ? AND slot = 1 FOR UPDATE`, [
            budgetScope(pool.name),
          ]);
        const [used] = await x.rows<{ bytes: string | number | null }>(
          `SELECT SUM(memory_bytes) AS bytes FROM ${this.#runs} WHERE pool = ? AND phase IN ('claimed', 'starting', 'running', 'collecting')`,
          [pool.name],
        );
        let left = pool.memoryBytes - Number(used?.bytes ?? 0);
        const fitting = rows.findIndex((row) => (left -= Number(row.memory_bytes)) < 0);
        taken = fitting < 0 ? rows : rows.slice(0, fitting);
      }
      if (taken.length === 0) return { runs: [], free: free.length };
      const ids = taken.map((row) => String(row.id));
      const update = updateFromValues(this.database, {
        table: 'runner_run',
        types: { uid: 'id' },
        rows: ids.map((id) => ({ uid: id })),
        set: { phase: "'claimed'", worker: `'${worker}'`, fence: 't.fence + 1', claimed_at: '{now}' },
        on: "t.id = u.uid AND t.phase = 'queued'",
      });
      await x.run(update.sql, update.params);
      await this.slots.take(x, scope, free, ids);
      for (const id of ids) await this.append(x, id, [stateEvent('claimed', null)]);
      const runs = await this.where(`id IN (${ids.map(() => '?').join(', ')}) ORDER BY priority DESC, id`, ids, x);
      return { runs, free: free.length };
    });
  }

  /**
   * Moves a run on. `undefined`: it is no longer in one of these phases under this fence.
   * A run that ends frees its slot in the same transaction.
   */
  async move(held: Held, to: Phase, more: Readonly<Record<string, unknown>> = {}, unless?: 'stopped'): Promise<RunRow | undefined> {
    return this.database.transaction((x) => this.moveIn(x, held, to, more, unless));
  }

  async moveIn(
    x: Executor,
    held: Held,
    to: Phase,
    more: Readonly<Record<string, unknown>> = {},
    unless?: 'stopped',
  ): Promise<RunRow | undefined> {
    const columns = Object.keys(more);
    const set = columns.map((column) => `, ${column} = ?`).join('');
    const changed = await x.run(
      `UPDATE ${this.#runs} SET phase = '${to}', state = ?${set} WHERE id = ? AND fence = ? AND phase IN (${held.phases.map((phase) => `'${phase}'`).join(', ')})${unless ? " AND desired = 'running'" : ''}`,
      [Number(more.state ?? stateOf(to)), ...Object.values(more), held.id, held.fence],
    );
    if (changed === 0) return undefined;
    if (to !== 'terminal') await this.append(x, held.id, [stateEvent(to, null)]);
    return this.get(held.id, x);
  }

  /** Ends a run: for good. Its slot is free, and its actor may run the task again. `undefined`: it had ended, or is another's. */
  async end(held: Held, ending: Ending, output?: Output): Promise<RunRow | undefined> {
    return this.database.transaction(async (x) => {
      const changed = await x.run(
        `UPDATE ${this.#runs} SET phase = 'terminal', state = ?, reason = ?, message = ?, exit_code = ?, exit_signal = ?, output = ?, ended_at = {now}, active_key = NULL WHERE id = ? AND fence = ? AND phase IN (${held.phases.map((phase) => `'${phase}'`).join(', ')})`,
        [
          ending.state,
          ending.reason,
          ending.message,
          ending.exitCode ?? null,
          ending.signal ?? null,
          output ? JSON.stringify(output) : null,
          held.id,
          held.fence,
        ],
      );
      if (changed === 0) return undefined;
      await this.append(x, held.id, [stateEvent('terminal', ending)]);
      const run = await this.get(held.id, x);
      if (run.pool !== null) await this.slots.free(x, slotScope(run.pool), [run.id]);
      return run;
    });
  }

  /** Back to the queue, as another attempt: nothing of it has begun. */
  async requeue(held: Held): Promise<RunRow | undefined> {
    return this.database.transaction(async (x) => {
      const run = await this.moveIn(x, held, 'queued', { worker: null, claimed_at: null, started_at: null }, 'stopped');
      if (!run) return undefined;
      await x.run(`UPDATE ${this.#runs} SET attempt = attempt + 1, fence = fence + 1 WHERE id = ?`, [run.id]);
      if (run.pool !== null) await this.slots.free(x, slotScope(run.pool), [run.id]);
      return this.get(run.id, x);
    });
  }

  /** Gives a run another worker. What the one before still writes is refused from now on. */
  async adopt(held: Held, worker: string): Promise<RunRow | undefined> {
    return this.database.transaction(async (x) => {
      const changed = await x.run(
        `UPDATE ${this.#runs} SET worker = ?, fence = fence + 1 WHERE id = ? AND fence = ? AND phase IN (${held.phases.map((phase) => `'${phase}'`).join(', ')})`,
        [worker, held.id, held.fence],
      );
      return changed === 0 ? undefined : this.get(held.id, x);
    });
  }

  /** Says that a run shall stop. Returns it as it is afterwards; `wasFirst`: nobody had said so before. */
  async wantStopped(id: string, by: string): Promise<{ readonly run: RunRow; readonly wasFirst: boolean }> {
    return this.database.transaction(async (x) => {
      const changed = await x.run(
        `UPDATE ${this.#runs} SET desired = 'stopped', stopped_by = ?, stop_at = {now} WHERE id = ? AND desired = 'running' AND phase NOT IN ('draft', 'collecting', 'terminal')`,
        [by, id],
      );
      return { run: await this.get(id, x), wasFirst: changed > 0 };
    });
  }

  /**
   * Appends to a run's log. With `held`, only while it is held so; `more` are columns that change with it.
   * Returns the last sequence number, or `undefined` if it is not held.
   */
  async log(
    held: Held,
    events: readonly NewEvent[],
    more: { readonly position: string; readonly bytes: number },
  ): Promise<number | undefined> {
    return this.database.transaction(async (x) => {
      const changed = await x.run(
        `UPDATE ${this.#runs} SET log_bytes = log_bytes + ?, log_position = ? WHERE id = ? AND fence = ? AND phase IN (${held.phases.map((phase) => `'${phase}'`).join(', ')})`,
        [more.bytes, more.position, held.id, held.fence],
      );
      return changed === 0 ? undefined : this.append(x, held.id, events);
    });
  }

  /** Numbers and inserts events; the run's row is locked by the statement that counts. */
  async append(x: Executor, id: string, events: readonly NewEvent[]): Promise<number> {
    await x.run(`UPDATE ${this.#runs} SET last_seq = last_seq + ? WHERE id = ?`, [events.length, id]);
    const [row] = await x.rows<{ last_seq: number | string; now: number | string }>(
      `SELECT last_seq, {now} AS now FROM ${this.#runs} WHERE id = ?`,
      [id],
    );
    const last = Number(row?.last_seq);
    const values = events.flatMap(({ kind, content }, i) => [id, last - events.length + 1 + i, Number(row?.now), kind, content]);
    await x.run(
      `INSERT INTO ${this.#events} (run_id, seq, at_ms, kind, content) VALUES ${events.map(() => '(?, ?, ?, ?, ?)').join(', ')}`,
      values,
    );
    return last;
  }
}

/** The scope of a pool's slots. */
export function slotScope(pool: string): string {
  return `runner/${pool}`;
}

/** One slot that stands for a pool's memory. */
export function budgetScope(pool: string): string {
  return `runner/${pool}/memory`;
}

/** What readers are told of a change. */
function stateEvent(phase: Phase, ending: Ending | null): NewEvent {
  const event = ending
    ? {
        phase,
        state: ending.state,
        reason: ending.reason,
        message: ending.message,
        exitCode: ending.exitCode ?? null,
        signal: ending.signal ?? null,
      }
    : { phase, state: stateOf(phase) };
  return { kind: 'state', content: Buffer.from(JSON.stringify(event)) };
}

/** A unique index refused a row. */
function isDuplicate(error: unknown): boolean {
  const { code, errcode, errno, message } = error as { code?: string; errcode?: number; errno?: number; message?: string };
  return code === '23505' || errno === 1062 || errcode === 2067 || /UNIQUE constraint failed/.test(message ?? '');
}
