import type { Database } from '@holdfast/core';
import type { Registry } from '../registry.ts';
import { parentType } from '../table/parent-type.ts';

/** SQL: true for a row `t` that is a child of a fan-out whose items still come. It tells that its item was written, so it must stay. */
export function openChildSql(database: Database): string {
  return `t.parent_id IS NOT NULL AND EXISTS (SELECT 1 FROM ${database.table('compensate_biz_fan_out')} f WHERE f.parent_id = t.parent_id AND f.total IS NULL)`;
}

/** SQL: true for the row `t` of a cancelled fan-out that may have children which are still to be cancelled. */
export function unclosedSql(database: Database): string {
  return `EXISTS (SELECT 1 FROM ${database.table('compensate_biz_fan_out')} f WHERE f.parent_id = t.id AND (f.cancelled = 0 OR f.cancel_after IS NOT NULL))`;
}

/**
 * Deletes the SUCCESS children of these fan-outs, which are of types that keep none and have all their children written: those that stayed while
 * the items came (see `keepsRow`). Index: `(parent_id, child_key)`. Returns how many.
 */
export async function purgeChildren({ database }: Registry, parentIds: readonly string[], signal?: AbortSignal): Promise<number> {
  if (parentIds.length === 0) return 0;
  const t = database.table('compensate_biz');
  const of = `parent_id IN (${parentIds.map((id) => BigInt(id)).join(', ')})`;
  // A fan-out that belongs to another is a row of that one, too, and is kept.
  const select = `SELECT ${database.text('t.id')} AS id FROM ${t} t WHERE t.${of} AND t.biz_type <> '${parentType}' AND t.status = 'SUCCESS' LIMIT 1000`;
  let purged = 0;
  for (let n = 1; n > 0 && !signal?.aborted; purged += n) {
    const rows = await database.rows<{ id: string }>(select);
    if (rows.length === 0) break;
    const ids = rows.map(({ id }) => BigInt(id)).join(', ');
    n = await database.transaction(async (sql) => {
      const gone = await sql.run(`${database.deleteByPrimaryKey(t)} WHERE id IN (${ids}) AND status = 'SUCCESS'`);
      await sql.run(`DELETE FROM ${database.table('compensate_biz_attempt')} WHERE task_id IN (${ids})`);
      return gone;
    });
  }
  return purged;
}
