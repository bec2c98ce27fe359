import type { BizTypes } from '../biz-type.ts';
import type { Registry } from '../registry.ts';
import { endedSql } from '../table/statuses.ts';
import { fanOutsByUnfinished, unfinishedSql } from '../table/unfinished.ts';
import { purgeChildren } from './purge-children.ts';

const pageRows = 1_000;

interface FanOut {
  readonly id: string;
  readonly type: string;
  /** How often children of it were redriven. */
  readonly redriven: string;
  readonly cancelled: string | number;
  readonly cancelling: string | number;
  /** The status of its row; `null` if the row is gone. */
  readonly status: string | null;
}

/**
 * Goes through the fan-outs that are unfinished and have all their children written. Deletes the children of `types` that keep none, and marks
 * those fan-outs finished that have ended: later sweeps don't read them. A fan-out of a type that this process does not know is left to those
 * that do, until its own row has been deleted. Returns the number of children that were deleted.
 */
export async function finishFanOuts(registry: Registry, types: BizTypes, signal?: AbortSignal): Promise<number> {
  const { database } = registry;
  const status = `(SELECT t.status FROM ${database.table('compensate_biz')} t WHERE t.id = f.parent_id)`;
  let purged = 0;
  for (let after = '0'; !signal?.aborted; ) {
    const page = await database.rows<FanOut>(
      `SELECT ${database.text('f.parent_id')} AS id, f.biz_type AS type, ${database.text('f.redriven')} AS redriven, f.cancelled, CASE WHEN f.cancel_after IS NULL THEN 0 ELSE 1 END AS cancelling, ${status} AS status FROM ${fanOutsByUnfinished(database)} WHERE ${unfinishedSql} AND f.total IS NOT NULL AND f.parent_id > ${BigInt(after)} ORDER BY f.parent_id LIMIT ${pageRows}`,
    );
    const mine = page.filter(({ type, status }) => Object.hasOwn(types, type) || (status === null && !Object.hasOwn(registry.types, type)));
    const emptied = mine.filter(({ type }) => types[type]?.keep === false);
    const ended = mine.filter(hasEnded);
    // Before the children are deleted: one that runs now may succeed after that.
    const live = await withLiveChildren(
      registry,
      ended.filter((fanOut) => emptied.includes(fanOut)),
    );
    purged += await purgeChildren(
      registry,
      emptied.map(({ id }) => id),
      signal,
    );
    if (signal?.aborted) break;
    await finish(
      registry,
      ended.filter(({ id }) => !live.has(id)),
    );
    const last = page.at(-1)?.id;
    if (page.length < pageRows || last === undefined) break;
    after = last;
  }
  return purged;
}

/** Whether it has completed, or its children have all been cancelled, or its row is gone. */
function hasEnded({ status, cancelled, cancelling }: FanOut): boolean {
  if (status === 'BLOCKED' || Number(cancelling) === 1) return false;
  return status !== 'CANCELLED' || Number(cancelled) === 1;
}

/** Those of the fan-outs that have a child which has not ended: it was redriven, or the row of the fan-out was deleted by hand. */
async function withLiveChildren({ database }: Registry, fanOuts: readonly FanOut[]): Promise<ReadonlySet<string>> {
  if (fanOuts.length === 0) return new Set();
  const ids = fanOuts.map(({ id }) => BigInt(id)).join(', ');
  const live = `SELECT 1 FROM ${database.table('compensate_biz')} t WHERE t.parent_id = f.parent_id AND NOT (t.${endedSql}) LIMIT 1`;
  const rows = await database.rows<{ id: string }>(
    `SELECT ${database.text('f.parent_id')} AS id FROM ${database.table('compensate_biz_fan_out')} f WHERE f.parent_id IN (${ids}) AND (${live}) IS NOT NULL`,
  );
  return new Set(rows.map(({ id }) => id));
}

/** Marks fan-outs finished, except those of which a child was redriven meanwhile. */
async function finish({ database }: Registry, fanOuts: readonly FanOut[]): Promise<void> {
  for (const [redriven, some] of Map.groupBy(fanOuts, (fanOut) => fanOut.redriven))
    await database.run(
      `UPDATE ${database.table('compensate_biz_fan_out')} SET unfinished = NULL WHERE parent_id IN (${some.map(({ id }) => BigInt(id)).join(', ')}) AND redriven = ${BigInt(redriven)}`,
    );
}
