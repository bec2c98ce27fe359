import { type Database, type Duration, durationMs, KeyGate, type SqlRunner, type WorkTable } from '@holdfast/core';
import { gateScope } from '../submit/insert-rows.ts';
import { countChildren, openNext } from '../table/biz-effects.ts';

interface Steered {
  readonly id: string;
  readonly status: string;
  readonly biz_type: string;
  readonly gate: string | null;
  readonly parent_id: string | null;
}

async function locked(database: Database, sql: SqlRunner, ids: readonly string[]): Promise<Steered[]> {
  const list = ids.map((id) => BigInt(id).toString()).join(',');
  return sql.rows(
    `SELECT ${database.text('id')} AS id, status, biz_type, gate, ${database.text('parent_id')} AS parent_id FROM ${database.table('compensate_biz')}${database.primaryKeyHint} WHERE id IN (${list}) ORDER BY 1${database.family === 'sqlite' ? '' : ' FOR UPDATE'}`,
  );
}

/**
 * Cancels rows that have not ended; their version goes up, so that a run under way is refused from here on. The turn of
 * a running serial row passes on once its worker has seen the cancellation, or its lease is over: two of a key never run
 * at once.
 */
export async function cancelRows(database: Database, table: WorkTable, sql: SqlRunner, ids: readonly string[]): Promise<number> {
  const t = database.table('compensate_biz');
  let count = 0;
  for (const row of await locked(database, sql, ids)) {
    if (['SUCCESS', 'FAILED', 'CANCELLED'].includes(row.status)) continue;
    await sql.run(
      `UPDATE ${t} SET status = ${table.state('cancelled')}, version = version + 1, updated_at = {timestamp} WHERE id = ${BigInt(row.id)}`,
    );
    count += 1;
    if (row.gate !== null && row.status !== 'PROCESSING' && row.status !== 'BLOCKED') {
      const key = row.gate;
      await new KeyGate(database).handOn(sql, gateScope(row.biz_type), key, row.id, () =>
        openNext(database, table, sql, row.biz_type, key),
      );
    }
    if (row.parent_id !== null) {
      await countChildren(database, sql, 'cancel', [
        {
          outcome: 'cancel',
          row: {
            id: row.id,
            version: 0,
            kind: row.biz_type,
            group: '',
            starts: 0,
            lost: 0,
            attempts: 0,
            payload: { parentId: row.parent_id },
          },
        },
      ]);
    }
  }
  return count;
}

/** Changes when a row that waits for its time, or is ready, runs. */
export async function rescheduleRow(database: Database, table: WorkTable, sql: SqlRunner, id: string, delay: Duration): Promise<boolean> {
  const delayMs = durationMs(delay, 'delay');
  const [row] = await locked(database, sql, [id]);
  if (!row || (row.status !== 'SCHEDULED' && row.status !== 'WAIT_HANDLE')) return false;
  await sql.run(
    `UPDATE ${database.table('compensate_biz')} SET status = ${table.state('scheduled')}, version = version + 1, run_at = {now} + ${delayMs}, updated_at = {timestamp} WHERE id = ${BigInt(id)}`,
  );
  return true;
}

/** Makes an ended row run again, from a clean count of lost starts; attempts and errors stay on record. */
export async function redriveRow(database: Database, table: WorkTable, sql: SqlRunner, id: string): Promise<boolean> {
  const [row] = await locked(database, sql, [id]);
  if (!row || (row.status !== 'FAILED' && row.status !== 'CANCELLED')) return false;
  let state = table.state('ready');
  if (row.gate !== null) {
    const gate = new KeyGate(database);
    const head = await gate.lock(sql, gateScope(row.biz_type), row.gate);
    if (head === null) await gate.setHead(sql, gateScope(row.biz_type), row.gate, id);
    else if (head !== id) state = table.state('blocked');
  }
  await sql.run(
    `UPDATE ${database.table('compensate_biz')} SET status = ${state}, version = version + 1, cnt = 0, lost = 0, dead_reason = NULL, lease_until = NULL, owner = NULL, claim_rank = ${table.rank('{now}')}, updated_at = {timestamp} WHERE id = ${BigInt(id)}`,
  );
  if (row.parent_id !== null) {
    const t = database.table('compensate_biz_fan_out_count');
    const column = row.status === 'FAILED' ? 'failed' : 'cancelled';
    const conflict =
      database.family === 'mysql'
        ? `ON DUPLICATE KEY UPDATE ${column} = ${column} - 1`
        : `ON CONFLICT (parent_id, worker) DO UPDATE SET ${column} = ${t}.${column} - 1`;
    await sql.run(
      `INSERT INTO ${t} (parent_id, worker, done, failed, cancelled) VALUES (${BigInt(row.parent_id)}, 'redrive', 0, ${column === 'failed' ? -1 : 0}, ${column === 'cancelled' ? -1 : 0}) ${conflict}`,
    );
  }
  return true;
}
