import { checkpoint, type Database, idList, type WorkTable } from '@holdfast/core';

interface WakeRow {
  readonly id: string;
  readonly endpoint_id: string;
  readonly sleeping: number | string;
}

const batchSize = 1_000;

/**
 * Makes endpoints READY that have a wake row, since notifications were committed for them. A trigger only inserts a wake row
 * (`notifier_wake`), so it neither waits for a lock on the endpoint nor holds one. A wake row is deleted as follows:
 *
 * - The endpoint sleeps: in the transaction that makes it READY.
 * - The endpoint is READY, paused or held back: at once. It will be served later, and reads everything that is due then.
 * - The endpoint is being served: not here. Its worker deletes the row before it reads, or leaves it for a later pass.
 *
 * Returns the ids of the endpoints that were woken.
 */
export async function wakeEndpoints(database: Database, work: WorkTable): Promise<readonly string[]> {
  const wakes = database.table('notifier_wake');
  const endpoints = database.table('notifier_endpoint');
  const rows = await database.rows<WakeRow>(
    `SELECT ${database.text('w.id')} AS id, ${database.text('w.endpoint_id')} AS endpoint_id, CASE WHEN e.status IN ('IDLE', 'WAITING') AND e.hold_until <= {now} THEN 1 ELSE 0 END AS sleeping FROM ${wakes} w JOIN ${endpoints} e ON e.id = w.endpoint_id WHERE e.status <> 'SERVING' ORDER BY w.id LIMIT ${batchSize}`,
  );
  if (rows.length === 0) return [];
  const sleeping = [...new Set(rows.filter((row) => Number(row.sleeping) === 1).map((row) => row.endpoint_id))].sort();
  const wakeIds = idList(
    database.family,
    rows.map(({ id }) => id),
  );
  await checkpoint('route:before');
  await database.transaction(async (sql) => {
    if (sleeping.length > 0) await makeReady(sql, database, work, sleeping);
    await sql.run(`${database.deleteByPrimaryKey(wakes)} WHERE ${wakeIds.sql}`, wakeIds.params);
  });
  return sleeping;
}

/**
 * Makes the sleeping ones of these endpoints READY. Leaves wake rows to the worker that will serve them. Returns the number of endpoints
 * woken.
 */
export async function makeReady(sql: Pick<Database, 'run'>, database: Database, work: WorkTable, ids: readonly string[]): Promise<number> {
  const list = idList(database.family, ids);
  return sql.run(
    `UPDATE ${database.table('notifier_endpoint')}${database.primaryKeyHint} SET status = 'READY', claim_rank = ${work.rank('{now}')}, updated_at = {timestamp} WHERE ${list.sql} AND status IN ('IDLE', 'WAITING') AND hold_until <= {now}`,
    list.params,
  );
}
