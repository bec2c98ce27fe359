import { checkpoint, type Database, forUpdate, idList, readsSnapshot, type SqlRunner, skipLocked } from '@holdfast/core';
import type { Registry } from '../registry.ts';
import { parentType } from '../table/parent-type.ts';
import { hasEnded } from '../table/statuses.ts';
import { fanOutsByUnfinished, unfinishedSql } from '../table/unfinished.ts';
import { lockRow, type SteeredRow, steeredColumns } from './steer.ts';

/** Children per transaction. */
const chunk = 1_000;
/** Fan-outs per pass. Each gets one chunk, so that a large one does not keep the others waiting. */
const fanOutsPerPass = 100;

/** Counts of one pass over the fan-outs that are being cancelled. */
export interface CancelPass {
  /** Transactions that cancelled children, or found that none is left. */
  readonly chunks: number;
  /** Children that were cancelled. */
  readonly cancelled: number;
}

/**
 * Cancels a row that has not ended. Its version goes up, so that a run under way can no longer commit or settle. The turn and the slot of a
 * running row stay taken until its worker has seen the cancellation, or its lease has expired: two rows of a key never run at once.
 *
 * A fan-out is closed in the same transaction: no child is written any more, and it never completes. Its first children are cancelled with it,
 * except those that others have locked, so that the caller waits for none of them. {@link cancelChildren} cancels all that are left, also those
 * that a snapshot of the caller does not show.
 * @returns the ids of the rows that were cancelled; none if the row has ended
 */
export async function cancelRow(registry: Registry, sql: SqlRunner, id: string): Promise<readonly string[]> {
  const row = await lockRow(registry, sql, id);
  if (!row || !isLive(row)) return [];
  await cancelLocked(registry, sql, [row]);
  if (row.biz_type !== parentType || !(await locksCurrentRows(registry.database, sql))) return [row.id];
  const children = await readChildren(registry, sql, row.id, '');
  return [row.id, ...(await cancelLive(registry, sql, children, skipLocked(registry.database)))];
}

/**
 * Cancels the next children of each fan-out that is being cancelled, one transaction for each. Any worker does it, and the place is kept with
 * the fan-out: a process that dies leaves the rest to the others. Tells the workers of this process which rows were cancelled.
 */
export async function cancelChildren(registry: Registry, signal?: AbortSignal): Promise<CancelPass> {
  const { database } = registry;
  const open = await database.rows<{ id: string }>(
    `SELECT ${database.text('parent_id')} AS id FROM ${database.table('compensate_biz_fan_out')} WHERE cancel_after IS NOT NULL LIMIT ${fanOutsPerPass}`,
  );
  const pass = { chunks: 0, cancelled: 0 };
  for (const { id } of open) {
    if (signal?.aborted) break;
    const cancelled = await cancelChunk(registry, id);
    if (cancelled === undefined) continue;
    registry.cancelled(cancelled);
    pass.chunks += 1;
    pass.cancelled += cancelled.length;
    await checkpoint('fan-out:after-cancel-chunk');
  }
  return pass;
}

/**
 * Cancels whatever is left of all cancelled fan-outs, also of those whose row was set CANCELLED by hand or by an earlier release. Returns the
 * number of children that were cancelled.
 */
export async function cancelAllChildren(registry: Registry, signal?: AbortSignal): Promise<number> {
  const { database, table } = registry;
  const unnoticed = await database.rows<{ id: string }>(
    `SELECT ${database.text('f.parent_id')} AS id FROM ${fanOutsByUnfinished(database)} WHERE ${unfinishedSql} AND f.cancelled = 0 AND (SELECT t.status FROM ${database.table('compensate_biz')} t WHERE t.id = f.parent_id) = ${table.state('cancelled')} ORDER BY f.parent_id LIMIT 1000`,
  );
  if (unnoticed.length > 0) await database.transaction((sql) => markFanOuts(registry, sql, 'cancelled', unnoticed));
  let cancelled = 0;
  for (let pass = await cancelChildren(registry, signal); pass.chunks > 0; pass = await cancelChildren(registry, signal))
    cancelled += pass.cancelled;
  return cancelled;
}

/**
 * One transaction: the next children in the order of their keys, and the key of the last one. Returns the ids of those that were cancelled, or
 * `undefined` if another worker is at this fan-out. The lock of the fan-out is that of its writers: since it was closed, none has added a child.
 */
function cancelChunk(registry: Registry, parentId: string): Promise<readonly string[] | undefined> {
  const { database, children } = registry;
  const f = database.table('compensate_biz_fan_out');
  return database.transaction(async (sql) => {
    const [fanOut] = await sql.rows<{ cancel_after: string; cancelled: string | number }>(
      `SELECT cancel_after, cancelled FROM ${f} WHERE parent_id = ${BigInt(parentId)} AND cancel_after IS NOT NULL${skipLocked(database)}`,
    );
    if (!fanOut) return undefined;
    const page = await readChildren(registry, sql, parentId, fanOut.cancel_after);
    const cancelled = await cancelLive(registry, sql, page, forUpdate(database));
    const last = page.length < chunk ? undefined : page.at(-1)?.child_key;
    await sql.run(`UPDATE ${f} SET cancel_after = ? WHERE parent_id = ${BigInt(parentId)}`, [last ?? null]);
    if (last === undefined && Number(fanOut.cancelled) === 1) await children.close(sql, parentId);
    return cancelled;
  });
}

/**
 * Returns whether a lock takes a row as it is now. If the transaction refuses each row that has changed since it began, a fan-out whose children
 * are running could hardly be cancelled with its first children: its transaction would conflict again and again.
 */
async function locksCurrentRows(database: Database, sql: SqlRunner): Promise<boolean> {
  if (database.family === 'postgres') return !(await readsSnapshot(database, sql));
  if (database.dialect === 'mariadb') {
    const [row] = await sql.rows<{ Value: string }>("SHOW VARIABLES LIKE 'innodb_snapshot_isolation'");
    return row?.Value !== 'ON';
  }
  return true;
}

interface ChildRow {
  readonly id: string;
  readonly child_key: string;
  readonly biz_type: string;
  readonly status: string;
}

/** Reads the children after a key, ended ones included, without locks. Index: `(parent_id, child_key)`. */
function readChildren({ database }: Registry, sql: SqlRunner, parentId: string, after: string): Promise<readonly ChildRow[]> {
  return sql.rows<ChildRow>(
    `SELECT ${database.text('id')} AS id, child_key, biz_type, status FROM ${database.table('compensate_biz')} WHERE parent_id = ${BigInt(parentId)} AND child_key > ? ORDER BY child_key LIMIT ${chunk}`,
    [after],
  );
}

/**
 * Locks those of the children that have not ended, in the order of their ids, and cancels them. Returns their ids. A fan-out that belongs to
 * this one and has completed stays SUCCESS, but others may belong to it: they are looked for.
 */
async function cancelLive(registry: Registry, sql: SqlRunner, children: readonly ChildRow[], lock: string): Promise<readonly string[]> {
  const ids = children.flatMap((child) => (isLive(child) || isCompleted(child) ? [child.id] : []));
  if (ids.length === 0) return [];
  const { database } = registry;
  const t = database.table('compensate_biz');
  const list = idList(database.family, ids);
  const rows = await sql.rows<SteeredRow>(
    `SELECT ${steeredColumns(database)} FROM ${t}${database.primaryKeyHint} WHERE ${list.sql} ORDER BY ${t}.id${lock}`,
    list.params,
  );
  const live = rows.filter(isLive);
  await cancelLocked(registry, sql, live);
  await markFanOuts(registry, sql, 'cancel_after', rows.filter(isCompleted));
  return live.map(({ id }) => id);
}

function isLive({ status }: { readonly status: string }): boolean {
  return !hasEnded(status);
}

function isCompleted({ biz_type, status }: { readonly biz_type: string; readonly status: string }): boolean {
  return biz_type === parentType && status === 'SUCCESS';
}

/** Cancels rows that are locked and have not ended. Fan-outs among them are closed, and their children are left to {@link cancelChildren}. */
async function cancelLocked(registry: Registry, sql: SqlRunner, rows: readonly SteeredRow[]): Promise<void> {
  if (rows.length === 0) return;
  const { database, table, effects } = registry;
  const list = idList(
    database.family,
    rows.map(({ id }) => id),
  );
  await sql.run(
    `UPDATE ${database.table('compensate_biz')}${database.primaryKeyHint} SET status = ${table.state('cancelled')}, version = version + 1, updated_at = {timestamp} WHERE ${list.sql}`,
    list.params,
  );
  await markFanOuts(
    registry,
    sql,
    'cancelled',
    rows.filter(({ biz_type }) => biz_type === parentType),
  );
  await effects.apply(
    sql,
    rows.map(({ id, biz_type, status, gate, parent_id }) => ({
      id,
      kind: biz_type,
      outcome: 'cancel',
      turn: status === 'PROCESSING' || status === 'BLOCKED' ? null : gate,
      slot: false,
      // A fan-out that belongs to another is not counted there.
      parent: biz_type === parentType ? null : parent_id,
    })),
    'cancel',
  );
}

/**
 * Marks fan-outs, so that {@link cancelChildren} goes through their children. With `cancelled`, they also get the total that they have reached:
 * no process, of any release, writes a child then.
 */
async function markFanOuts(
  { database }: Registry,
  sql: SqlRunner,
  mark: 'cancelled' | 'cancel_after',
  rows: readonly { readonly id: string }[],
): Promise<void> {
  if (rows.length === 0) return;
  const closed = mark === 'cancelled' ? 'total = COALESCE(total, produced), cancelled = 1, ' : '';
  await sql.run(
    `UPDATE ${database.table('compensate_biz_fan_out')}${database.primaryKeyHint} SET ${closed}cancel_after = '' WHERE parent_id IN (${rows.map(({ id }) => BigInt(id)).join(', ')}) AND cancelled = 0`,
  );
}
