import { type Database, KeyGate, type SqlRunner } from '@holdfast/core';
import { gateScope } from '../table/run-table.ts';
import type { JobRow } from './job-rows.ts';

/** A run to be written. */
export interface NewRun {
  /** The fire that the run stands for; `undefined` for a run that a call asked for. */
  readonly fireAt?: number;
  /** When the run is due, in ms since 1970; `undefined`: at once. */
  readonly runAt?: number;
  readonly params: unknown;
  /** A run that never runs: why. */
  readonly skipped?: string;
}

/**
 * Writes a run of a job and returns its id. A job whose runs take turns has its gate locked before the run gets its id, so that the ids are in
 * the order of the turns.
 */
export async function insertRun(database: Database, sql: SqlRunner, job: JobRow, run: NewRun): Promise<string> {
  const { processor, overlap, priority, settings } = job.definition;
  const gated = overlap !== 'allow' && run.skipped === undefined;
  const gate = new KeyGate(database);
  const head = gated ? await gate.lock(sql, gateScope(processor), job.id) : null;
  const status = run.skipped === undefined ? (head === null ? 'SCHEDULED' : 'BLOCKED') : 'SKIPPED';
  const values = {
    processor,
    app: job.app,
    status,
    priority,
    job_id: job.id,
    job_version: job.version,
    fire_at: run.fireAt ?? null,
    gate: gated ? job.id : null,
    skips: overlap === 'skip' && run.fireAt !== undefined ? 1 : 0,
    params: JSON.stringify(run.params),
    settings: JSON.stringify(settings),
    last_error: run.skipped === undefined ? null : JSON.stringify({ name: 'Skipped', code: 'skipped', message: run.skipped }),
  };
  const names = Object.keys(values);
  const into = `INTO ${database.table('scheduler_run')} (${names.join(', ')}, created_at, run_at) VALUES (${names.map(() => '?').join(', ')}, {now}, ${run.runAt === undefined ? '{now}' : Math.trunc(run.runAt)})`;
  const id =
    database.dialect === 'mysql' && sql.insert
      ? await sql.insert(`INSERT ${into}`, Object.values(values))
      : ((await sql.rows<{ id: string }>(`INSERT ${into} RETURNING ${database.text('id')} AS id`, Object.values(values)))[0]?.id ?? '');
  if (gated && head === null) await gate.setHead(sql, gateScope(processor), job.id, id);
  return id;
}
