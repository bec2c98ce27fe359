import { type Database, idList, type WorkTable } from '@holdfast/core';

const rowsPerPass = 500;

/** How long ended runs are kept, in ms. */
export interface KeepRuns {
  readonly succeededMs: number;
  /** FAILED, CANCELLED and SKIPPED runs. */
  readonly othersMs: number;
}

/** Deletes the runs of these processors that ended long ago, with their attempts. Returns their number. Indexes: those of ended runs. */
export async function purgeRuns(table: WorkTable, processors: readonly string[], keep: KeepRuns, signal?: AbortSignal): Promise<number> {
  let total = 0;
  for (const kind of processors) {
    total += await table.purge({ kind, state: 'done', olderThanMs: keep.succeededMs, ...(signal ? { signal } : {}) });
    for (const state of ['dead', 'cancelled'] as const)
      total += await table.purge({ kind, state, olderThanMs: keep.othersMs, ...(signal ? { signal } : {}) });
    total += await purgeSkipped(table.database, kind, keep.othersMs, signal);
    if (signal?.aborted) break;
  }
  return total;
}

/** SKIPPED runs never ran, so they are no state of a claimable row, and have no attempts. */
async function purgeSkipped(database: Database, processor: string, olderThanMs: number, signal?: AbortSignal): Promise<number> {
  const t = database.table('scheduler_run');
  const ended = database.family === 'mysql' ? "due_at IS NULL AND ended_status = 'SKIPPED'" : "status = 'SKIPPED'";
  for (let total = 0; ; ) {
    const first = await database.rows<{ id: string; old: number }>(
      `SELECT ${database.text('id')} AS id, CASE WHEN created_at < {now} - ${Math.trunc(olderThanMs)} THEN 1 ELSE 0 END AS old FROM ${t} WHERE ${ended} AND processor = ? ORDER BY ${t}.id LIMIT ${rowsPerPass}`,
      [processor],
    );
    const ids = first.filter(({ old }) => Number(old) === 1).map(({ id }) => id);
    if (ids.length === 0) return total;
    const list = idList(database.family, ids);
    total += await database.run(`${database.deleteByPrimaryKey(t)} WHERE ${list.sql}`, list.params);
    if (ids.length < rowsPerPass || signal?.aborted) return total;
  }
}
