import type { Database, SqlRunner } from '@holdfast/core';

const rowsPerPass = 500;
const error = JSON.stringify({ name: 'Skipped', code: 'skipped', message: 'A run of the same job had not ended when this one was due.' });

/** Ends the runs that are due though their turn has not come, of jobs with `overlap: 'skip'`. Returns their number. Index: `(run_at)` of such runs. */
export async function skipOverlapped(database: Database): Promise<number> {
  const t = database.table('scheduler_run');
  const due = await database.rows<{ id: string }>(
    `SELECT ${database.text('id')} AS id FROM ${t} WHERE status = 'BLOCKED' AND skips = 1 AND run_at <= {now} ORDER BY run_at LIMIT ${rowsPerPass}`,
  );
  if (due.length === 0) return 0;
  return database.run(
    `UPDATE ${t}${database.primaryKeyHint} SET status = 'SKIPPED', last_error = ?, updated_at = {timestamp} WHERE id IN (${due.map(({ id }) => BigInt(id)).join(', ')}) AND ${database.family === 'mysql' ? "status = 'BLOCKED'" : "status || '' = 'BLOCKED'"}`,
    [error],
  );
}

/** As {@link skipOverlapped}, for one job whose run ends in this transaction: a run that was due before that end must not get its turn. */
export async function skipBeforeTurn(database: Database, sql: SqlRunner, processor: string, gate: string): Promise<void> {
  await sql.run(
    `UPDATE ${database.table('scheduler_run')} SET status = 'SKIPPED', last_error = ?, updated_at = {timestamp} WHERE gate = ? AND processor = ? AND status = 'BLOCKED' AND skips = 1 AND run_at <= {now}`,
    [error, gate, processor],
  );
}
