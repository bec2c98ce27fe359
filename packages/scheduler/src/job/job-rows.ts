import { type Database, forUpdate, type SqlRunner } from '@holdfast/core';
import type { JobDefinition } from './definition.ts';

/** A job as it stands in its row. Times are in milliseconds since 1970. */
export interface JobRow {
  readonly id: string;
  readonly app: string;
  readonly key: string;
  readonly version: number;
  readonly enabled: boolean;
  readonly createdAt: number;
  readonly nextAt: number | undefined;
  readonly definition: JobDefinition;
}

interface RawJob {
  readonly id: string;
  readonly app: string;
  readonly job_key: string;
  readonly version: number;
  readonly enabled: number;
  readonly created_at: string | number;
  readonly next_at: string | number | null;
  readonly definition: string;
}

function columns(database: Database): string {
  return `${database.text('id')} AS id, app, job_key, version, enabled, created_at, next_at, definition`;
}

function jobOf(raw: RawJob): JobRow {
  return {
    id: raw.id,
    app: raw.app,
    key: raw.job_key,
    version: Number(raw.version),
    enabled: Number(raw.enabled) === 1,
    createdAt: Number(raw.created_at),
    nextAt: raw.next_at === null ? undefined : Number(raw.next_at),
    definition: JSON.parse(raw.definition) as JobDefinition,
  };
}

/** The job with a key, or `undefined`. */
export async function findJob(
  database: Database,
  sql: Pick<SqlRunner, 'rows'>,
  app: string,
  key: string,
  lock?: 'lock',
): Promise<JobRow | undefined> {
  const [raw] = await sql.rows<RawJob>(
    `SELECT ${columns(database)} FROM ${database.table('scheduler_job')} WHERE app = ? AND job_key = ?${lock ? forUpdate(database) : ''}`,
    [app, key],
  );
  return raw && jobOf(raw);
}

/** The enabled jobs that fire next until an instant, the earliest first, locked; those that another process plans are left out. */
export async function lockDueJobs(database: Database, sql: SqlRunner, until: number, limit: number): Promise<readonly JobRow[]> {
  const t = database.table('scheduler_job');
  const due = `enabled = 1 AND next_at IS NOT NULL AND next_at <= ${Math.trunc(until)} ORDER BY next_at LIMIT ${limit}`;
  const skip = database.family === 'sqlite' ? '' : ' FOR UPDATE SKIP LOCKED';
  if (database.family !== 'mysql') return (await sql.rows<RawJob>(`SELECT ${columns(database)} FROM ${t} WHERE ${due}${skip}`)).map(jobOf);
  // A locking scan of an index locks each entry that it passes: ids first, then the rows by their ids.
  const ids = await database.rows<{ id: string }>(`SELECT ${database.text('id')} AS id FROM ${t} WHERE ${due}`);
  if (ids.length === 0) return [];
  const rows = await sql.rows<RawJob>(
    `SELECT ${columns(database)} FROM ${t}${database.primaryKeyHint} WHERE id IN (${ids.map(({ id }) => BigInt(id)).join(', ')}) AND enabled = 1 AND next_at <= ${Math.trunc(until)}${skip}`,
  );
  return rows.map(jobOf);
}

/** Writes the next fire of jobs whose rows the transaction has locked. */
export async function setNext(database: Database, sql: SqlRunner, jobId: string, nextAt: number | undefined): Promise<void> {
  await sql.run(
    `UPDATE ${database.table('scheduler_job')} SET next_at = ${nextAt === undefined ? 'NULL' : Math.trunc(nextAt)} WHERE id = ${BigInt(jobId)}`,
  );
}
