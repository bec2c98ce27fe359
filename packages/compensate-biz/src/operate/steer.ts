import { compareTexts, type Database, type Duration, durationMs, forUpdate, idList, rowsAtPresent, type SqlRunner } from '@holdfast/core';
import { FanOutCancelledError } from '../errors.ts';
import type { Registry } from '../registry.ts';
import { parentType } from '../table/parent-type.ts';
import { reopenFanOuts } from '../table/unfinished.ts';

/** The columns of a row that decide how it is steered. */
export interface SteeredRow {
  readonly id: string;
  readonly status: string;
  readonly biz_id: string | null;
  readonly biz_type: string;
  readonly gate: string | null;
  readonly parent_id: string | null;
}

/** SQL that reads a {@link SteeredRow}. */
export function steeredColumns(database: Database): string {
  return `${database.text('id')} AS id, status, biz_id, biz_type, gate, ${database.text('parent_id')} AS parent_id`;
}

/** Reads a row and locks it. A row that is not there is not looked for with a lock: on MySQL, that would hold up every submit. */
export async function lockRow({ database }: Registry, sql: SqlRunner, id: string): Promise<SteeredRow | undefined> {
  const there = `SELECT 1 AS one FROM ${database.table('compensate_biz')} WHERE id = ${BigInt(id)}`;
  if (sql.ofCaller && database.family === 'mysql' && (await rowsAtPresent(database, sql, there, [])).length === 0) return undefined;
  const [row] = await sql.rows<SteeredRow>(
    `SELECT ${steeredColumns(database)} FROM ${database.table('compensate_biz')} WHERE id = ${BigInt(id)}${forUpdate(database)}`,
  );
  return row;
}

/** Changes the time at which a SCHEDULED or READY row runs. */
export async function rescheduleRow(registry: Registry, sql: SqlRunner, id: string, delay: Duration): Promise<boolean> {
  const { database, table } = registry;
  const delayMs = durationMs(delay, 'delay');
  const row = await lockRow(registry, sql, id);
  if (!row || (row.status !== 'SCHEDULED' && row.status !== 'WAIT_HANDLE')) return false;
  await sql.run(
    `UPDATE ${database.table('compensate_biz')} SET status = ${table.state('scheduled')}, version = version + 1, run_at = {now} + ${delayMs}, updated_at = {timestamp} WHERE id = ${BigInt(id)}`,
  );
  return true;
}

/**
 * Makes a FAILED or CANCELLED row run again, with its counts of failures and lost starts at 0. Attempts and errors stay on record. A serial
 * or capped row that was cancelled while it ran waits until the lease of that run has expired: its handler may still be running.
 * @throws FanOutCancelledError for a fan-out: its children were cancelled, and its source is not here to make the missing ones
 */
export async function redriveRow(registry: Registry, sql: SqlRunner, id: string): Promise<boolean> {
  return (await redriveRows(registry, sql, [id])).length === 1;
}

/**
 * As {@link redriveRow}, for those of the rows that are FAILED or CANCELLED. Returns their ids, ascending. Locks as every other transaction
 * does: fan-outs, then rows in the order of their ids, then gates in the order of their keys, then the counts of parents.
 */
export async function redriveRows(registry: Registry, sql: SqlRunner, ids: readonly string[]): Promise<readonly string[]> {
  const { database, table, turns, caps, children } = registry;
  const t = database.table('compensate_biz');
  const list = idList(database.family, ids);
  const parents = await sql.rows<{ id: string }>(
    `SELECT DISTINCT ${database.text('parent_id')} AS id FROM ${t}${database.primaryKeyHint} WHERE ${list.sql} AND parent_id IS NOT NULL`,
    list.params,
  );
  await reopenFanOuts(
    database,
    sql,
    parents.map(({ id }) => id),
  );
  const rows = await sql.rows<SteeredRow>(
    `SELECT ${steeredColumns(database)} FROM ${t}${database.primaryKeyHint} WHERE ${list.sql} AND status IN ('FAILED', 'CANCELLED') ORDER BY ${t}.id${forUpdate(database)}`,
    list.params,
  );
  const fanOut = rows.find(({ biz_type }) => biz_type === parentType);
  if (fanOut) throw new FanOutCancelledError(fanOut.biz_id ?? '', fanOut.id);
  const waiting = new Set<string>();
  for (const { id, biz_type, gate } of rows.toSorted(byTypeAndGate))
    if (gate !== null && !(await turns.take(sql, biz_type, gate, id))) waiting.add(id);
  const redriven = rows.map(({ id }) => id);
  const alone = new Set(rows.filter(({ gate, biz_type }) => gate !== null || caps.capped(biz_type)).map(({ id }) => id));
  const running = 'lease_until > {now}';
  const ready = table.state('ready');
  const changes: readonly (readonly [ids: readonly string[], state: string, runAt: string])[] = [
    [redriven.filter((id) => !alone.has(id)), ready, 'NULL'],
    [
      redriven.filter((id) => alone.has(id) && !waiting.has(id)),
      `CASE WHEN ${running} THEN ${table.state('scheduled')} ELSE ${ready} END`,
      `CASE WHEN ${running} THEN lease_until ELSE NULL END`,
    ],
    [redriven.filter((id) => waiting.has(id)), table.state('blocked'), `CASE WHEN ${running} THEN lease_until ELSE NULL END`],
  ];
  for (const [some, state, runAt] of changes) {
    if (some.length === 0) continue;
    const list = idList(database.family, some);
    await sql.run(
      `UPDATE ${t}${database.primaryKeyHint} SET status = ${state}, run_at = ${runAt}, version = version + 1, cnt = 0, lost = 0, dead_reason = NULL, lease_until = NULL, owner = NULL, claim_rank = ${table.rank('{now}')}, updated_at = {timestamp} WHERE ${list.sql}`,
      list.params,
    );
  }
  const counts = new Map<string, { failed: number; cancelled: number }>();
  for (const { parent_id, status } of rows) {
    if (parent_id === null) continue;
    const count = counts.get(parent_id) ?? { failed: 0, cancelled: 0 };
    counts.set(parent_id, count);
    count[status === 'FAILED' ? 'failed' : 'cancelled'] -= 1;
  }
  for (const parent of [...counts.keys()].sort()) await children.add(sql, parent, 'redrive', counts.get(parent) ?? {});
  return redriven;
}

function byTypeAndGate(a: SteeredRow, b: SteeredRow): number {
  return compareTexts(a.biz_type, b.biz_type) || compareTexts(a.gate ?? '', b.gate ?? '');
}
