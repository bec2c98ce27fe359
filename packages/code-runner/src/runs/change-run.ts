import { type Database, Slots } from '@holdfast/core';
import { type RawRun, type RunRow, runColumns, runOf } from './run.ts';
import { insertEvents, type NewEvent } from './run-events.ts';
import { slotScope } from './slot-scope.ts';
import type { Phase } from './states.ts';

/** A run as its holder knows it. A change applies only if phase and fence are still these. */
export interface Held {
  readonly id: string;
  readonly fence: number;
  readonly phases: readonly Phase[];
}

/** One change of a run's row. */
export interface Change {
  readonly set: readonly string[];
  readonly params: readonly unknown[];
  readonly events: readonly NewEvent[];
  /** A further SQL condition. */
  readonly and?: string;
  readonly unlessStopped?: boolean;
  readonly freesSlot?: boolean;
}

/**
 * Changes a run's row by compare-and-set, appends the events, and frees the slot if the run has ended; all or nothing. Returns
 * `undefined` if the comparison failed. All changes of a claimed run go through here.
 *
 * On Postgres this is one statement, which commits by itself: as six statements in a transaction it took 2.5 times as long, and a
 * run makes six such changes.
 */
export async function changeRun(database: Database, held: Held, change: Change): Promise<RunRow | undefined> {
  const { set, params, events, and, unlessStopped = false, freesSlot = false } = change;
  const runs = database.table('runner_run');
  const log = database.table('runner_event');
  const count = events.length;
  const update = `UPDATE ${runs} SET ${set.join(', ')}${count > 0 ? `, last_seq = last_seq + ${count}` : ''} WHERE id = ? AND fence = ? AND phase IN (${held.phases.map((phase) => `'${phase}'`).join(', ')})${unlessStopped ? " AND desired = 'running'" : ''}${and === undefined ? '' : ` AND ${and}`}`;
  const all = [...params, held.id, held.fence];
  const columns = runColumns(database);
  if (database.family === 'postgres') {
    const also: string[] = [];
    if (count > 0) also.push(`e AS (${insertEvents(log, count)})`);
    if (freesSlot)
      also.push(
        `s AS (UPDATE ${database.table('holdfast_slot')} AS h SET holder = NULL FROM u WHERE h.scope = '${slotScope('')}' || u.pool AND h.holder = CAST(u.id AS text))`,
      );
    const [row] = await database.rows<RawRun>(`WITH ${[`u AS (${update} RETURNING *)`, ...also].join(', ')} SELECT ${columns} FROM u`, [
      ...all,
      ...events.flatMap(({ kind, content }) => [kind, content]),
    ]);
    return row && runOf(row);
  }
  return database.transaction(async (sql) => {
    let row: RawRun | undefined;
    if (database.family === 'sqlite') [row] = await sql.rows<RawRun>(`${update} RETURNING ${columns}`, all);
    else if ((await sql.run(update, all)) > 0) [row] = await sql.rows<RawRun>(`SELECT ${columns} FROM ${runs} WHERE id = ?`, [held.id]);
    if (!row) return undefined;
    const run = runOf(row);
    if (count > 0)
      await sql.run(
        `INSERT INTO ${log} (run_id, seq, at_ms, kind, content) VALUES ${events.map((_, i) => `(?, ${run.lastSeq - count + 1 + i}, {now}, ?, ?)`).join(', ')}`,
        events.flatMap(({ kind, content }) => [run.id, kind, content]),
      );
    if (freesSlot && run.pool !== null) await new Slots(database).free(sql, slotScope(run.pool), [run.id]);
    return run;
  });
}
