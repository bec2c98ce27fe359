import { type Database, idList } from '@holdfast/core';
import type { FileStore } from '../store/file-store.ts';

/** Runs per transaction. */
const runsAtOnce = 100;
/** Runs that one pass deletes; the next pass goes on. */
const runsPerPass = 1_000;
const tasksPerPass = 500;
/** Requests to the file store at a time. */
const concurrency = 8;
/** Objects per request to the file store. */
const objectsAtOnce = 1_000;

/**
 * Deletes runs that ended longer ago than `ageMs`, with their logs, results and events, and removed tasks without runs; at most 1,000 runs per
 * call. A run whose log is not packed yet stays. Returns the number of runs deleted. Indexes: `(ended_at)`, `(removed_at)`.
 */
export async function purgeRuns(database: Database, store: FileStore, ageMs: number, signal?: AbortSignal): Promise<number> {
  const old = Math.trunc(ageMs);
  const runs = database.table('runner_run');
  let total = 0;
  while (total < runsPerPass && !signal?.aborted) {
    const rows = await database.rows<{ id: string; job_uid: string }>(
      `SELECT ${database.text('id')} AS id, job_uid FROM ${runs} WHERE phase = 'terminal' AND ended_at < {now} - ${old} AND log_packed = 1 ORDER BY ended_at LIMIT ${runsAtOnce}`,
    );
    if (rows.length === 0) break;
    // Objects first: after a crash in between, the rows say what is left to remove.
    const folders = rows.map(({ job_uid }) => `${job_uid.trim()}/`);
    await Promise.all(
      Array.from({ length: concurrency }, async () => {
        for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) await removeFolder(store, folder);
      }),
    );
    const list = idList(
      database.family,
      rows.map(({ id }) => id),
    );
    await database.transaction(async (sql) => {
      await sql.run(`DELETE FROM ${database.table('runner_event')} WHERE ${list.sql.replace(/\bid\b/, 'run_id')}`, list.params);
      await sql.run(`${database.deleteByPrimaryKey(runs)} WHERE ${list.sql}`, list.params);
    });
    total += rows.length;
    if (rows.length < runsAtOnce) break;
  }
  const tasks = database.table('runner_task');
  const gone = await database.rows<{ id: string }>(
    `SELECT ${database.text('t.id')} AS id FROM ${tasks} t WHERE t.removed_at < {now} - ${old} AND NOT EXISTS (SELECT 1 FROM ${runs} r WHERE r.task_id = t.id) ORDER BY t.removed_at LIMIT ${tasksPerPass}`,
  );
  if (gone.length > 0) {
    const list = idList(
      database.family,
      gone.map(({ id }) => id),
    );
    await database.run(`${database.deleteByPrimaryKey(tasks)} WHERE ${list.sql}`, list.params);
  }
  return total;
}

/** Removes all objects whose names begin with `folder`, also those that no row names, as results whose worker died. */
async function removeFolder(store: FileStore, folder: string): Promise<void> {
  for (;;) {
    const names = await store.list(folder, objectsAtOnce);
    if (names.length > 0) await store.remove(names);
    if (names.length < objectsAtOnce) return;
  }
}
