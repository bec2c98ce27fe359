import type { Database, SqlRunner } from '@holdfast/core';
import type { JobDefinition } from '../job/definition.ts';

/**
 * Makes jobs with a fixed delay due again, in the transaction in which a run of them ends. Returns their number. A job that has a live run, or is due already, keeps what
 * it has; so does one of another trigger.
 */
export async function rearmDelays(database: Database, sql: SqlRunner, jobIds: readonly string[]): Promise<number> {
  const ids = [...new Set(jobIds)].filter((id) => /^\d+$/.test(id)).sort((a, b) => Number(BigInt(a) - BigInt(b)));
  if (ids.length === 0) return 0;
  const t = database.table('scheduler_job');
  const jobs = await sql.rows<{ id: string; definition: string }>(
    `SELECT ${database.text('id')} AS id, definition FROM ${t} WHERE id IN (${ids.join(', ')}) AND enabled = 1 AND next_at IS NULL AND definition LIKE '%"kind":"delay"%'`,
  );
  let rearmed = 0;
  for (const { id, definition } of jobs) {
    const { trigger } = JSON.parse(definition) as JobDefinition;
    if (trigger.kind !== 'delay') continue;
    rearmed += await sql.run(
      `UPDATE ${t} SET next_at = {now} + ${trigger.delayMs} WHERE id = ${id} AND next_at IS NULL AND enabled = 1${trigger.ends === undefined ? '' : ` AND {now} + ${trigger.delayMs} <= ${trigger.ends}`}`,
    );
  }
  return rearmed;
}

/**
 * Makes jobs with a fixed delay due again that have neither a next fire nor a live run, which no path leaves behind: a row was deleted by hand.
 * Returns their number.
 */
export async function repairDelays(database: Database): Promise<number> {
  const stuck = await database.rows<{ id: string }>(
    `SELECT ${database.text('j.id')} AS id FROM ${database.table('scheduler_job')} j WHERE j.enabled = 1 AND j.next_at IS NULL AND j.definition LIKE '%"kind":"delay"%' AND NOT EXISTS (SELECT 1 FROM ${database.table('scheduler_run')} r WHERE r.job_id = j.id AND r.status IN ('SCHEDULED', 'BLOCKED', 'READY', 'RUNNING')) LIMIT 1000`,
  );
  if (stuck.length === 0) return 0;
  return database.transaction((sql) =>
    rearmDelays(
      database,
      sql,
      stuck.map(({ id }) => id),
    ),
  );
}
