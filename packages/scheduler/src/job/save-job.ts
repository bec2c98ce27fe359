import { type Database, insertOrLock, type SqlRunner } from '@holdfast/core';
import { runTable, runTurns } from '../table/run-table.ts';
import { fires } from '../trigger/fires.ts';
import type { JobDefinition } from './definition.ts';
import { findJob, type JobRow } from './job-rows.ts';

/**
 * Creates a job, or gives it another definition: its planned runs that have not started go, and it is planned anew. Saving what is there already
 * changes nothing. Returns the job.
 */
export async function saveJob(
  database: Database,
  sql: SqlRunner,
  {
    app,
    key,
    definition,
    enabled,
  }: { readonly app: string; readonly key: string; readonly definition: JobDefinition; readonly enabled?: boolean },
): Promise<JobRow> {
  const t = database.table('scheduler_job');
  const [clock] = await sql.rows<{ now: string | number }>('SELECT {now} AS now');
  const now = Number(clock?.now);
  const text = JSON.stringify(definition);
  await sql.run(
    insertOrLock(
      database,
      `INTO ${t} (app, job_key, version, enabled, created_at, updated_at, definition) VALUES (?, ?, 0, ?, ${now}, ${now}, '{}')`,
      'job_key',
    ),
    [app, key, enabled === false ? 0 : 1],
  );
  const job = await findJob(database, sql, app, key, 'lock');
  if (!job) throw new Error(`the job ${key} was deleted while it was saved`);
  const on = enabled ?? job.enabled;
  if (job.version > 0 && JSON.stringify(job.definition) === text && on === job.enabled) return job;
  if (job.version > 0) await removePlanned(database, sql, job, now);
  const version = job.version + 1;
  const nextAt = on ? firstFire(definition, job, now) : undefined;
  await sql.run(
    `UPDATE ${t} SET version = ${version}, enabled = ${on ? 1 : 0}, updated_at = ${now}, next_at = ${nextAt ?? 'NULL'}, definition = ? WHERE id = ${BigInt(job.id)}`,
    [text],
  );
  return { ...job, version, enabled: on, nextAt, definition };
}

/** The first fire of a definition that was saved now. A fixed delay fires at once. */
function firstFire({ trigger }: JobDefinition, { key, createdAt }: JobRow, now: number): number | undefined {
  if (trigger.kind === 'delay') return Math.max(now, trigger.starts ?? now);
  return fires(trigger, { key, created: createdAt }, now - 1).next().value ?? undefined;
}

/** Deletes the runs whose fire is still ahead: they are plans, not work. Turns pass on to what is left. */
async function removePlanned(database: Database, sql: SqlRunner, job: JobRow, now: number): Promise<void> {
  const t = database.table('scheduler_run');
  const planned = await sql.rows<{ id: string; processor: string; gate: string | null }>(
    `SELECT ${database.text('id')} AS id, processor, gate FROM ${t} WHERE job_id = ${BigInt(job.id)} AND fire_at > ${now} AND status IN ('SCHEDULED', 'BLOCKED') ORDER BY ${t}.id DESC${database.family === 'sqlite' ? '' : ' FOR UPDATE'}`,
  );
  if (planned.length === 0) return;
  await sql.run(`${database.deleteByPrimaryKey(t)} WHERE id IN (${planned.map(({ id }) => BigInt(id)).join(', ')})`);
  const turns = runTurns(runTable(database));
  await turns.passAll(
    sql,
    planned.map(({ id, processor, gate }) => ({ id, kind: processor, turn: gate })),
  );
}
