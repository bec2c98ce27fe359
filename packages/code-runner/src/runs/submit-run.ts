import { activeTraceparent, type Database, insertedId, type SqlRunner, uuidv7 } from '@holdfast/core';
import { LiveRunError, NotFoundError } from '../errors.ts';
import { sha256 } from '../store/spool.ts';
import type { RunLimits } from './limits.ts';
import { type RawRun, type RunRow, runColumns, runOf } from './run.ts';
import { insertStateEvent, stateContent } from './run-events.ts';

/** A checked request to run a task. */
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

/**
 * Puts a run into the queue: the draft of the task, or a new row.
 * @throws LiveRunError if the actor has a run of this task that has not ended
 */
export async function submitRun(database: Database, sql: SqlRunner, s: Submission): Promise<RunRow> {
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
    manifest_recorded: 1,
    traceparent: activeTraceparent(),
    last_seq: 1,
  };
  const runs = database.table('runner_run');
  const events = database.table('runner_event');
  const draft = s.draftRunId;
  const more = draft === null ? { ...values, task_id: s.taskId, job_uid: uuidv7().replaceAll('-', '') } : values;
  const columns = Object.keys(more);
  const times = `${draft === null ? 'created_at, ' : ''}submitted_at, queue_deadline`;
  const event = stateContent('queued', null);
  const all = runColumns(database);
  const set = columns.map((column) => `${column} = ?`).join(', ');
  const write =
    draft === null
      ? `INSERT INTO ${runs} (${columns.join(', ')}, ${times}) VALUES (${columns.map(() => '?').join(', ')}, {now}, {now}, {now} + ${s.queueMs})`
      : `UPDATE ${runs} SET ${set}, submitted_at = {now}, queue_deadline = {now} + ${s.queueMs} WHERE id = ? AND phase = 'draft'`;
  const params = draft === null ? Object.values(more) : [...Object.values(more), draft];
  let row: RawRun | undefined;
  try {
    if (database.family === 'postgres') {
      const statement = `WITH u AS (${write} RETURNING *), e AS (${insertStateEvent(events, '?::bytea')}) SELECT ${all} FROM u`;
      [row] = await sql.rows<RawRun>(statement, [...params, event]);
      if (row) return runOf(row);
    } else if (database.family === 'sqlite') [row] = await sql.rows<RawRun>(`${write} RETURNING ${all}`, params);
    else {
      const id = draft ?? (await insertedId(sql, write, params));
      if (draft !== null) await sql.run(write, params);
      [row] = await sql.rows<RawRun>(`SELECT ${all} FROM ${runs} WHERE id = ?`, [id]);
    }
  } catch (error) {
    // The unique index allows one live run. The caller looks up its id, outside of this failed transaction.
    if (isDuplicate(error)) throw new LiveRunError('You have a run of this task that has not ended. Wait for it, or stop it first.');
    throw error;
  }
  if (!row) throw new NotFoundError(`The draft ${draft} of the task ${s.taskId} is gone. Submit again.`);
  await sql.run(`INSERT INTO ${events} (run_id, seq, at_ms, kind, content) VALUES (?, 1, {now}, 'state', ?)`, [row.id, event]);
  return runOf(row);
}

/** Tells whether a unique index refused a row. */
function isDuplicate(error: unknown): boolean {
  const { code, errcode, errno, message } = error as { code?: string; errcode?: number; errno?: number; message?: string };
  return code === '23505' || errno === 1062 || errcode === 2067 || /UNIQUE constraint failed/.test(message ?? '');
}
