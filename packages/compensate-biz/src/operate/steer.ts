import { type Duration, durationMs, type SqlRunner } from '@holdfast/core';
import type { Registry } from '../registry.ts';

interface SteeredRow {
  readonly id: string;
  readonly status: string;
  readonly biz_type: string;
  readonly gate: string | null;
  readonly parent_id: string | null;
}

/** Reads a row and locks it. */
export async function lockRow({ database }: Registry, sql: SqlRunner, id: string): Promise<SteeredRow | undefined> {
  const [row] = await sql.rows<SteeredRow>(
    `SELECT ${database.text('id')} AS id, status, biz_type, gate, ${database.text('parent_id')} AS parent_id FROM ${database.table('compensate_biz')} WHERE id = ${BigInt(id)}${database.family === 'sqlite' ? '' : ' FOR UPDATE'}`,
  );
  return row;
}

/**
 * Cancels a row that has not ended. Its version goes up, so that a run under way can no longer commit or settle. The turn and the slot of a
 * running row stay taken until its worker has seen the cancellation, or its lease has expired: two rows of a key never run at once.
 */
export async function cancelRow(registry: Registry, sql: SqlRunner, id: string): Promise<boolean> {
  const { database, table, effects } = registry;
  const row = await lockRow(registry, sql, id);
  if (!row || ['SUCCESS', 'FAILED', 'CANCELLED'].includes(row.status)) return false;
  await sql.run(
    `UPDATE ${database.table('compensate_biz')} SET status = ${table.state('cancelled')}, version = version + 1, updated_at = {timestamp} WHERE id = ${BigInt(row.id)}`,
  );
  const turn = row.status === 'PROCESSING' || row.status === 'BLOCKED' ? null : row.gate;
  await effects.apply(sql, [{ id: row.id, kind: row.biz_type, outcome: 'cancel', turn, slot: false, parent: row.parent_id }], 'cancel');
  return true;
}

/** Changes the time at which a SCHEDULED or READY row runs. Its lost starts are forgotten: a SCHEDULED row has none, or it would not be promoted. */
export async function rescheduleRow(registry: Registry, sql: SqlRunner, id: string, delay: Duration): Promise<boolean> {
  const { database, table } = registry;
  const delayMs = durationMs(delay, 'delay');
  const row = await lockRow(registry, sql, id);
  if (!row || (row.status !== 'SCHEDULED' && row.status !== 'WAIT_HANDLE')) return false;
  await sql.run(
    `UPDATE ${database.table('compensate_biz')} SET status = ${table.state('scheduled')}, version = version + 1, lost = 0, run_at = {now} + ${delayMs}, updated_at = {timestamp} WHERE id = ${BigInt(id)}`,
  );
  return true;
}

/** Makes a FAILED or CANCELLED row run again, with its counts of failures and lost starts at 0. Attempts and errors stay on record. */
export async function redriveRow(registry: Registry, sql: SqlRunner, id: string): Promise<boolean> {
  const { database, table, turns, children } = registry;
  const row = await lockRow(registry, sql, id);
  if (!row || (row.status !== 'FAILED' && row.status !== 'CANCELLED')) return false;
  const turn = row.gate === null || (await turns.take(sql, row.biz_type, row.gate, id));
  const state = table.state(turn ? 'ready' : 'blocked');
  await sql.run(
    `UPDATE ${database.table('compensate_biz')} SET status = ${state}, version = version + 1, cnt = 0, lost = 0, dead_reason = NULL, lease_until = NULL, owner = NULL, claim_rank = ${table.rank('{now}')}, updated_at = {timestamp} WHERE id = ${BigInt(id)}`,
  );
  if (row.parent_id !== null)
    await children.add(sql, row.parent_id, 'redrive', row.status === 'FAILED' ? { failed: -1 } : { cancelled: -1 });
  return true;
}
