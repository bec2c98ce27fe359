import { checkpoint, type Database, idList, type WorkTable } from '@holdfast/core';

interface Wake {
  readonly id: string;
  readonly endpoint_id: string;
  readonly sleeping: number | string;
}

const batch = 1_000;

/**
 * Makes endpoints READY for which notifications were committed. Triggers only insert a sign (`notifier_wake`), so they wait for
 * nobody and nobody for them. Which signs may go:
 *
 * - of an endpoint that sleeps: with the update that makes it READY;
 * - of one that is READY, paused or held back: it is served later than this, and reads all that is due then;
 * - of one that is being served: not by us. Its holder removes it before a read, or leaves it for us.
 *
 * Returns the endpoints that were woken.
 */
export async function routeWakes(database: Database, work: WorkTable): Promise<readonly string[]> {
  const wakes = database.table('notifier_wake');
  const endpoints = database.table('notifier_endpoint');
  const rows = await database.rows<Wake>(
    `SELECT ${database.text('w.id')} AS id, ${database.text('w.endpoint_id')} AS endpoint_id, CASE WHEN e.status IN ('IDLE', 'WAITING') AND e.hold_until <= {now} THEN 1 ELSE 0 END AS sleeping FROM ${wakes} w JOIN ${endpoints} e ON e.id = w.endpoint_id WHERE e.status <> 'SERVING' ORDER BY w.id LIMIT ${batch}`,
  );
  if (rows.length === 0) return [];
  const sleeping = [...new Set(rows.filter((row) => Number(row.sleeping) === 1).map((row) => row.endpoint_id))].sort();
  const gone = idList(
    database.family,
    rows.map(({ id }) => id),
  );
  await checkpoint('route:before');
  await database.transaction(async (sql) => {
    if (sleeping.length > 0) await makeReady(sql, database, work, sleeping);
    await sql.run(`${database.deleteByPrimaryKey(wakes)} WHERE ${gone.sql}`, gone.params);
  });
  return sleeping;
}

/**
 * Makes sleeping endpoints READY, as a hint names them: no look at the signs, which their holder removes. Returns how many slept.
 */
export async function makeReady(x: Pick<Database, 'run'>, database: Database, work: WorkTable, ids: readonly string[]): Promise<number> {
  const list = idList(database.family, ids);
  return x.run(
    `UPDATE ${database.table('notifier_endpoint')}${database.primaryKeyHint} SET status = 'READY', claim_rank = ${work.rank('{now}')}, updated_at = {timestamp} WHERE ${list.sql} AND status IN ('IDLE', 'WAITING') AND hold_until <= {now}`,
    list.params,
  );
}
