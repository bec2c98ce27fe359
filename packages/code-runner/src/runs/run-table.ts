import { activeTraceparent, type Database, Slots, type SqlRunner, updateFromValues, uuidv7 } from '@holdfast/core';
import { LiveRunError, NotFoundError } from '../errors.ts';
import { insertedId, isId } from '../insert-row.ts';
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
  async get(id: string, sql: Pick<SqlRunner, 'rows'> = this.database): Promise<RunRow> {
    const run = await this.find(id, sql);
    if (!run) throw new NotFoundError(`There is no run ${String(id).slice(0, 40)}.`);
    return run;
  }

  async find(id: string, sql: Pick<SqlRunner, 'rows'> = this.database): Promise<RunRow | undefined> {
    if (!isId(id)) return undefined;
    const [row] = await sql.rows<RawRun>(`SELECT ${runColumns(this.database)} FROM ${this.#runs} WHERE id = ?`, [id]);
    return row && runOf(row);
  }

  /** Rows by a condition, which is ours. */
  async where(condition: string, params: readonly unknown[], sql: Pick<SqlRunner, 'rows'> = this.database): Promise<RunRow[]> {
    const rows = await sql.rows<RawRun>(`SELECT ${runColumns(this.database)} FROM ${this.#runs} WHERE ${condition}`, params);
    return rows.map(runOf);
  }

  /**
   * Puts a run into the queue: the task's draft, or a new one.
   * @throws LiveRunError if the actor has one of this task that has not ended
   */
  async submit(sql: SqlRunner, s: Submission): Promise<RunRow> {
    const values = {
      actor: s.actor,
      active_key: sha256(`${s.taskId}/${s.actor}`),
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
      traceparent: activeTraceparent(),
      last_seq: 1,
    };
    const draft = s.draftRunId;
    const more = draft === null ? { ...values, task_id: s.taskId, job_uid: uuidv7().replaceAll('-', '') } : values;
    const columns = Object.keys(more);
    const times = `${draft === null ? 'created_at, ' : ''}submitted_at, queue_deadline`;
    const event = stateEvent('queued', null);
    const all = runColumns(this.database);
    const set = columns.map((column) => `${column} = ?`).join(', ');
    const write =
      draft === null
        ? `INSERT INTO ${this.#runs} (${columns.join(', ')}, ${times}) VALUES (${columns.map(() => '?').join(', ')}, {now}, {now}, {now} + ${s.queueMs})`
        : `UPDATE ${this.#runs} SET ${set}, submitted_at = {now}, queue_deadline = {now} + ${s.queueMs} WHERE id = ? AND phase = 'draft'`;
    const params = draft === null ? Object.values(more) : [...Object.values(more), draft];
    let row: RawRun | undefined;
    try {
      if (this.database.family === 'postgres') {
        const statement = `WITH u AS (${write} RETURNING *), e AS (${this.#eventOf('u', '?::bytea')}) SELECT ${all} FROM u`;
        [row] = await sql.rows<RawRun>(statement, [...params, event]);
        if (row) return runOf(row);
      }
      if (this.database.family === 'sqlite') [row] = await sql.rows<RawRun>(`${write} RETURNING ${all}`, params);
      else {
        const id = draft ?? (await insertedId(sql, write, params));
        if (draft !== null) await sql.run(write, params);
        [row] = await sql.rows<RawRun>(`SELECT ${all} FROM ${this.#runs} WHERE id = ?`, [id]);
      }
    } catch (error) {
      // The index lets one in. Which one that is the caller finds out, outside of this transaction.
      if (isDuplicate(error)) throw new LiveRunError('You have a run of this task that has not ended. Wait for it, or stop it first.');
      throw error;
    }
    if (!row) throw new NotFoundError(`The draft ${draft} of the task ${s.taskId} is gone. Submit again.`);
    await sql.run(`INSERT INTO ${this.#events} (run_id, seq, at_ms, kind, content) VALUES (?, 1, {now}, 'state', ?)`, [row.id, event]);
    return runOf(row);
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
    if (this.database.family === 'postgres' && pool.memoryBytes === undefined) return this.#claimAtOnce(pool, worker, wanted);
    return this.database.transaction(async (sql) => {
      const free = await this.slots.lockFree(sql, scope, wanted);
      if (free.length === 0) return { runs: [], free: 0 };
      const runs = await this.#take(sql, pool, worker, free.length);
      if (runs.length === 0) return { runs: [], free: free.length };
      const slots = updateFromValues(this.database, {
        table: 'holdfast_slot',
        types: { number: 'integer', taker: 'text' },
        rows: runs.map(({ id }, i) => ({ number: free[i], taker: id })),
        set: { holder: 'u.taker' },
        on: `t.slot = u.number AND t.scope = '${scope}'`,
      });
      await sql.run(slots.sql, slots.params);
      return { runs, free: free.length };
    });
  }

  /**
   * The same in one statement, for Postgres. Locks free slots and the best runs, those that others have locked skipped; uses
   * `runner_run_queue`. As five round trips in a transaction it held each slot for three milliseconds more.
   */
  async #claimAtOnce(pool: Pool, worker: string, wanted: number): Promise<{ readonly runs: readonly RunRow[]; readonly free: number }> {
    const slots = this.database.table('holdfast_slot');
    const scope = slotScope(pool.name);
    const rows = await this.database.rows<RawRun & { free: string | number }>(
      `WITH f AS MATERIALIZED (SELECT slot FROM ${slots} WHERE scope = '${scope}' AND holder IS NULL ORDER BY slot LIMIT ${Math.trunc(wanted)} FOR UPDATE SKIP LOCKED),
       b AS MATERIALIZED (SELECT id, priority FROM ${this.#runs} WHERE phase = 'queued' AND pool = '${pool.name}' AND desired = 'running' ORDER BY priority DESC, id LIMIT (SELECT count(*) FROM f) FOR UPDATE SKIP LOCKED),
       u AS (UPDATE ${this.#runs} SET ${claimedBy(worker)} WHERE id IN (SELECT id FROM b) RETURNING *),
       t AS (UPDATE ${slots} AS h SET holder = CAST(r.id AS text) FROM (SELECT id, row_number() OVER (ORDER BY priority DESC, id) AS n FROM b) AS r, (SELECT slot, row_number() OVER (ORDER BY slot) AS n FROM f) AS g WHERE r.n = g.n AND h.scope = '${scope}' AND h.slot = g.slot),
       e AS (${this.#eventOf('u', '?::bytea')})
       SELECT c.free, ${runColumns(this.database)} FROM (SELECT count(*) AS free FROM f) AS c LEFT JOIN u ON true`,
      [stateEvent('claimed', null)],
    );
    return { runs: inOrder(rows.filter(({ id }) => id !== null).map(runOf)), free: Number(rows[0]?.free ?? 0) };
  }

  /** Moves the best runs of a pool to `claimed`, each with its event. */
  async #take(sql: SqlRunner, pool: Pool, worker: string, most: number): Promise<RunRow[]> {
    const columns = runColumns(this.database);
    const best = `SELECT id FROM ${this.#runs} WHERE phase = 'queued' AND pool = '${pool.name}' AND desired = 'running' ORDER BY priority DESC, id LIMIT`;
    const claimed = claimedBy(worker);
    const event = stateEvent('claimed', null);
    const count = pool.memoryBytes === undefined ? most : await this.#fitting(sql, pool, most);
    if (count === 0) return [];
    if (this.database.family === 'postgres') {
      const rows = await sql.rows<RawRun>(
        `WITH u AS (UPDATE ${this.#runs} SET ${claimed} WHERE id = ANY(ARRAY(${best} ${count} FOR UPDATE SKIP LOCKED)) RETURNING *), e AS (${this.#eventOf('u', '?::bytea')}) SELECT ${columns} FROM u`,
        [event],
      );
      return inOrder(rows.map(runOf));
    }
    if (this.database.family === 'sqlite') {
      const rows = await sql.rows<RawRun>(`UPDATE ${this.#runs} SET ${claimed} WHERE id IN (${best} ${count}) RETURNING ${columns}`);
      for (const row of rows)
        await sql.run(`INSERT INTO ${this.#events} (run_id, seq, at_ms, kind, content) VALUES (?, ?, {now}, 'state', ?)`, [
          row.id,
          row.last_seq,
          event,
        ]);
      return inOrder(rows.map(runOf));
    }
    const ids = (await sql.rows<{ id: string | number }>(`${best} ${count} FOR UPDATE SKIP LOCKED`)).map(({ id }) => String(id));
    if (ids.length === 0) return [];
    const marks = ids.map(() => '?').join(', ');
    await sql.run(`UPDATE ${this.#runs}${this.database.primaryKeyHint} SET ${claimed} WHERE id IN (${marks})`, ids);
    await sql.run(
      `INSERT INTO ${this.#events} (run_id, seq, at_ms, kind, content) SELECT id, last_seq, {now}, 'state', ? FROM ${this.#runs} WHERE id IN (${marks})`,
      [event, ...ids],
    );
    return inOrder(await this.where(`id IN (${marks})`, ids, sql));
  }

  /** How many of the best runs the pool's memory has room for. Claims of such a pool go one at a time. */
  async #fitting(sql: SqlRunner, pool: Pool, most: number): Promise<number> {
    if (this.database.family !== 'sqlite')
      await sql.rows(`SELECT slot FROM ${this.database.table('holdfast_slot')} WHERE scope = ? AND slot = 1 FOR UPDATE`, [
        budgetScope(pool.name),
      ]);
    const [used] = await sql.rows<{ bytes: string | number | null }>(
      `SELECT SUM(memory_bytes) AS bytes FROM ${this.#runs} WHERE pool = ? AND phase IN ('claimed', 'starting', 'running', 'collecting')`,
      [pool.name],
    );
    const waiting = await sql.rows<{ bytes: string | number }>(
      `SELECT ${this.database.text('memory_bytes')} AS bytes FROM ${this.#runs} WHERE phase = 'queued' AND pool = ? AND desired = 'running' ORDER BY priority DESC, id LIMIT ${most}`,
      [pool.name],
    );
    let left = (pool.memoryBytes ?? 0) - Number(used?.bytes ?? 0);
    const over = waiting.findIndex(({ bytes }) => (left -= Number(bytes)) < 0);
    return over < 0 ? waiting.length : over;
  }

  /** Moves a run on. `undefined`: it is no longer in one of these phases under this fence, or, with `unless`, it is to stop. */
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
      events: [stateNews(to, null)],
      unlessStopped: more.unless === 'stopped',
    });
  }

  /** Ends a run: for good. Its slot is free, and its actor may run the task again. `undefined`: it had ended, or is another's. */
  end(held: Held, ending: Ending, output?: Output): Promise<RunRow | undefined> {
    return this.#change(held, { ...ended(ending, output), events: [stateNews('terminal', ending)] });
  }

  /** Through `collecting` to the end in one step, where all is collected. */
  collected(held: Held, ending: Ending, output: Output, more: { readonly unless?: 'stopped' }): Promise<RunRow | undefined> {
    const events = [stateNews('collecting', null), stateNews('terminal', ending)];
    return this.#change(held, { ...ended(ending, output), events, unlessStopped: more.unless === 'stopped' });
  }

  /** Back to the queue, as another attempt: nothing of it has begun. */
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
    return this.#change(held, { set, params: [], events: [stateNews('queued', null)], unlessStopped: true, freesSlot: true });
  }

  /** Gives a run another worker. What the one before still writes is refused from now on. */
  adopt(held: Held, worker: string): Promise<RunRow | undefined> {
    return this.#change(held, { set: ['worker = ?', 'fence = fence + 1'], params: [worker], events: [] });
  }

  /** Says that a run shall stop. Returns it as it is afterwards; `wasFirst`: nobody had said so before. */
  async wantStopped(id: string, by: string): Promise<{ readonly run: RunRow; readonly wasFirst: boolean }> {
    return this.database.transaction(async (sql) => {
      const changed = await sql.run(
        `UPDATE ${this.#runs} SET desired = 'stopped', stopped_by = ?, stop_at = {now} WHERE id = ? AND desired = 'running' AND phase NOT IN ('draft', 'collecting', 'terminal')`,
        [by, id],
      );
      return { run: await this.get(id, sql), wasFirst: changed > 0 };
    });
  }

  /**
   * Appends to a run's log behind its first `from` bytes, while it is held. False: it is not. Said again after an answer was lost, it
   * is not appended again.
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

  /** A log is in one object from now on: its rows go. */
  async packed(run: RunRow, index: string): Promise<void> {
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

  /** Where each event of a packed log lies. */
  async logIndex(id: string): Promise<string> {
    const [row] = await this.database.rows<{ log_index: string | null }>(`SELECT log_index FROM ${this.#runs} WHERE id = ?`, [id]);
    return row?.log_index ?? '[]';
  }

  /**
   * The one way in which a run's row changes: compare, set, append what happened, free its slot if it has ended; all or nothing.
   *
   * On Postgres it is one statement, which commits by itself: as six in a transaction it took 2.5 times as long, and a run makes
   * six such changes.
   */
  async #change(held: Held, change: Change): Promise<RunRow | undefined> {
    const { set, params, events, and, unlessStopped = false, freesSlot = false } = change;
    const count = events.length;
    const update = `UPDATE ${this.#runs} SET ${set.join(', ')}${count > 0 ? `, last_seq = last_seq + ${count}` : ''} WHERE id = ? AND fence = ? AND phase IN (${held.phases.map((phase) => `'${phase}'`).join(', ')})${unlessStopped ? " AND desired = 'running'" : ''}${and === undefined ? '' : ` AND ${and}`}`;
    const all = [...params, held.id, held.fence];
    const columns = runColumns(this.database);
    if (this.database.family === 'postgres') {
      const also: string[] = [];
      if (count > 0) also.push(`e AS (${this.#eventsOf('u', count)})`);
      if (freesSlot)
        also.push(
          `s AS (UPDATE ${this.database.table('holdfast_slot')} AS h SET holder = NULL FROM u WHERE h.scope = '${slotScope('')}' || u.pool AND h.holder = CAST(u.id AS text))`,
        );
      const [row] = await this.database.rows<RawRun>(
        `WITH ${[`u AS (${update} RETURNING *)`, ...also].join(', ')} SELECT ${columns} FROM u`,
        [...all, ...events.flatMap(({ kind, content }) => [kind, content])],
      );
      return row && runOf(row);
    }
    return this.database.transaction(async (sql) => {
      let row: RawRun | undefined;
      if (this.database.family === 'sqlite') [row] = await sql.rows<RawRun>(`${update} RETURNING ${columns}`, all);
      else if ((await sql.run(update, all)) > 0)
        [row] = await sql.rows<RawRun>(`SELECT ${columns} FROM ${this.#runs} WHERE id = ?`, [held.id]);
      if (!row) return undefined;
      const run = runOf(row);
      if (count > 0)
        await sql.run(
          `INSERT INTO ${this.#events} (run_id, seq, at_ms, kind, content) VALUES ${events.map((_, i) => `(?, ${run.lastSeq - count + 1 + i}, {now}, ?, ?)`).join(', ')}`,
          events.flatMap(({ kind, content }) => [run.id, kind, content]),
        );
      if (freesSlot && run.pool !== null) await this.slots.free(sql, slotScope(run.pool), [run.id]);
      return run;
    });
  }

  /** Inserts one event of state for each row of `u`, whose number is the last. */
  #eventOf(u: string, content: string): string {
    return `INSERT INTO ${this.#events} (run_id, seq, at_ms, kind, content) SELECT ${u}.id, ${u}.last_seq, {now}, 'state', ${content} FROM ${u}`;
  }

  /** Inserts events for the one row of `u`: parameters are kind and content of each. */
  #eventsOf(u: string, count: number): string {
    const values = Array.from({ length: count }, (_, i) => `(${i + 1}, ?::text, ?::bytea)`).join(', ');
    return `INSERT INTO ${this.#events} (run_id, seq, at_ms, kind, content) SELECT ${u}.id, ${u}.last_seq - ${count} + v.i, {now}, v.kind, v.content FROM ${u}, (VALUES ${values}) AS v(i, kind, content)`;
  }
}

function claimedBy(worker: string): string {
  return `phase = 'claimed', worker = '${worker}', fence = fence + 1, claimed_at = {now}, last_seq = last_seq + 1`;
}

function inOrder(runs: RunRow[]): RunRow[] {
  return runs.sort((a, b) => b.priority - a.priority || (BigInt(a.id) < BigInt(b.id) ? -1 : 1));
}

/** What the end of a run sets. */
function ended(ending: Ending, output: Output | undefined): Pick<Change, 'set' | 'params' | 'freesSlot'> {
  const set = {
    state: ending.state,
    reason: ending.reason,
    message: ending.message,
    exit_code: ending.exitCode ?? null,
    exit_signal: ending.signal ?? null,
    output: output ? JSON.stringify(output) : null,
    active_key: null,
  };
  return {
    set: ["phase = 'terminal'", 'ended_at = {now}', ...Object.keys(set).map((column) => `${column} = ?`)],
    params: Object.values(set),
    freesSlot: true,
  };
}

/** What one change of a run is made of. */
interface Change {
  readonly set: readonly string[];
  readonly params: readonly unknown[];
  readonly events: readonly NewEvent[];
  /** One more condition. */
  readonly and?: string;
  readonly unlessStopped?: boolean;
  readonly freesSlot?: boolean;
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
function stateEvent(phase: Phase, ending: Ending | null): Buffer {
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
  return Buffer.from(JSON.stringify(event));
}

function stateNews(phase: Phase, ending: Ending | null): NewEvent {
  return { kind: 'state', content: stateEvent(phase, ending) };
}

/** A unique index refused a row. */
function isDuplicate(error: unknown): boolean {
  const { code, errcode, errno, message } = error as { code?: string; errcode?: number; errno?: number; message?: string };
  return code === '23505' || errno === 1062 || errcode === 2067 || /UNIQUE constraint failed/.test(message ?? '');
}
