import { checkpoint, type Database, type SqlRunner } from '@holdfast/core';
import { insertRun } from '../job/insert-run.ts';
import { type JobRow, lockDueJobs, setNext } from '../job/job-rows.ts';
import { dueFires, type PlanMoment } from './due-fires.ts';

/** What a pass of planning did. */
export interface PlanCounts {
  readonly jobs: number;
  readonly runs: number;
  readonly skipped: number;
}

/** Jobs that one pass plans. */
export const jobsPerPass = 200;

/**
 * Plans due jobs: writes a run for each fire of the next `aheadMs`, and the job's next fire, in one transaction. Any number of processes may
 * plan: each takes other jobs, and the unique index on job and fire is there for what nobody thought of.
 */
export async function planJobs(database: Database, aheadMs: number): Promise<PlanCounts> {
  await checkpoint('plan:before');
  const counts = await database.transaction(async (sql) => {
    const [clock] = await sql.rows<{ now: string | number }>('SELECT {now} AS now');
    const now = Number(clock?.now);
    const jobs = await lockDueJobs(database, sql, now + aheadMs, jobsPerPass);
    let runs = 0;
    let skipped = 0;
    const written = await writtenFires(database, sql, jobs);
    for (const job of jobs) {
      const planned = plan(job, now, aheadMs);
      const isNew = (fireAt: number): boolean => !written.has(`${job.id}/${fireAt}`);
      if (planned.skipped && isNew(planned.skipped.last)) {
        const { first, last, count } = planned.skipped;
        await insertRun(database, sql, job, {
          fireAt: last,
          runAt: last,
          params: job.definition.params,
          skipped: missedText(first, last, count),
        });
        skipped += 1;
      }
      const fresh = planned.runs.filter(isNew);
      for (const fireAt of fresh) await insertRun(database, sql, job, { fireAt, runAt: fireAt, params: job.definition.params });
      runs += fresh.length;
      await setNext(database, sql, job.id, planned.next);
    }
    await checkpoint('plan:before-commit');
    return { jobs: jobs.length, runs, skipped };
  });
  await checkpoint('plan:after');
  return counts;
}

/**
 * The fires of locked jobs that are rows already, as `job/instant`: a job that was saved again, or whose clock was moved back, may come to an
 * instant twice. Index: `(job_id, fire_at)`.
 */
async function writtenFires(database: Database, sql: SqlRunner, jobs: readonly JobRow[]): Promise<ReadonlySet<string>> {
  if (jobs.length === 0) return new Set();
  const from = jobs.map(({ id, nextAt }) => `(job_id = ${BigInt(id)} AND fire_at >= ${nextAt ?? 0})`);
  const rows = await sql.rows<{ job: string; at: string | number }>(
    `SELECT ${database.text('job_id')} AS job, fire_at AS at FROM ${database.table('scheduler_run')} WHERE ${from.join(' OR ')}`,
  );
  return new Set(rows.map(({ job, at }) => `${job}/${at}`));
}

function plan(job: JobRow, now: number, aheadMs: number): ReturnType<typeof dueFires> {
  const { trigger, missed, graceMs } = job.definition;
  const moment: PlanMoment = { now, until: now + aheadMs, graceMs };
  return dueFires(trigger, { key: job.key, created: job.createdAt }, job.nextAt ?? now, missed, moment);
}

function missedText(first: number, last: number, count: number): string {
  const [from, to] = [new Date(first).toISOString(), new Date(last).toISOString()];
  return count === 1
    ? `The fire of ${to} was missed: no process planned it in time.`
    : `${count} fires from ${from} to ${to} were missed: no process planned them in time.`;
}
