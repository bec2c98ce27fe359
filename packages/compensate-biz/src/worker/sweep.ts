import { KeyGate, Once } from '@holdfast/core';
import type { CompensateBiz } from '../biz.ts';
import type { BizTypes } from '../biz-type.ts';
import { freeSlots, repairSlots } from '../global-cap.ts';
import { completeParents, openParents, parentType } from '../submit/fan-out.ts';
import { gateScope } from '../submit/insert-rows.ts';
import { countChildren, handOnGates, openNext, outcomes } from '../table/biz-effects.ts';

/** What a sweep did. */
export interface SweepCounts {
  /** SCHEDULED rows whose time had come. */
  readonly promoted: number;
  /** Rows taken back from workers that vanished. */
  readonly rescued: number;
  /** Of those, how many are FAILED now as crash loops. */
  readonly dead: number;
  /** Keys of serial types, and slots of capped ones, whose turn had been left hanging. */
  readonly gates: number;
  /** Fan-outs completed. */
  readonly completed: number;
  /** Rows deleted because their retention was over. */
  readonly purged: number;
  /** READY rows of types that this registry does not know, and rows met since the last sweep whose version is newer. */
  readonly unknown: number;
}

/** Takes back rows whose lease is over. */
export async function rescueOnce(
  biz: CompensateBiz<BizTypes>,
  adoptAfterMs: number,
): Promise<{ readonly rescued: number; readonly dead: number }> {
  const { database, table, types } = biz;
  const result = await table.rescue({
    maxLost: (kind) => types[kind]?.maxLost ?? 3,
    adoptAfterMs,
    hook: async (sql, settled) => {
      await handOnGates(database, table, sql, outcomes(settled));
      await countChildren(database, sql, 'rescue', outcomes(settled));
      await freeSlots(
        database,
        types,
        sql,
        settled.map(({ row }) => row),
      );
    },
  });
  if (result.rescued + result.dead > 0) biz.wake();
  return result;
}

/**
 * Finds everything that was lost, in bounded steps: nothing is paged by offset over rows whose status is changing. `of`
 * restricts what is looked after type by type (turns, retention) to these types.
 */
export async function sweepOnce(
  biz: CompensateBiz<BizTypes>,
  adoptAfterMs: number = 600_000,
  of: BizTypes = biz.types,
): Promise<SweepCounts> {
  const started = performance.now();
  const { database, table } = biz;
  biz.logger.info({ types: Object.keys(of) }, 'sweep starts');
  let promoted = 0;
  for (let n = 1000; n === 1000; promoted += n) n = await table.promote(1000);
  const { rescued, dead } = await rescueOnce(biz, adoptAfterMs);
  const gates = (await repairGates(biz, of)) + (await repairSlots(database, of));
  const completed = await completeParents({ database, wake: (rows) => biz.wakeFor(rows) }, await openParents(database));
  for (const parentId of completed) biz.emit('fan-out:completed', { parentId });
  let purged = 0;
  for (const [type, definition] of Object.entries(of)) {
    if (definition.purgeAfterMs === undefined) continue;
    for (let n = 1; n > 0; purged += n) n = await table.purge(type, ['done'], definition.purgeAfterMs);
  }
  await new Once(database).purge();
  const unknown = (await countUnknown(biz)) + reportNewer(biz, of);
  if (promoted + rescued > 0) biz.wake();
  const counts = { promoted, rescued, dead, gates, completed: completed.length, purged, unknown };
  biz.logger.info({ types: Object.keys(of), ...counts, ms: Math.round(performance.now() - started) }, 'sweep ends');
  return counts;
}

/**
 * Passes on turns whose row ended without doing so: cancelled while running (its lease is over or its worker has let
 * go), set by older code, or deleted by hand.
 */
export async function repairGates(biz: CompensateBiz<BizTypes>, of: BizTypes = biz.types): Promise<number> {
  const { database, table } = biz;
  const gate = new KeyGate(database);
  let repaired = 0;
  for (const [type, definition] of Object.entries(of)) {
    if (!definition.serial) continue;
    for (let after = ''; ; ) {
      const heads = await gate.heads(gateScope(type), after, 500);
      for (const { key, head } of heads) {
        const [row] = await database.rows<{ ended: number }>(
          `SELECT CASE WHEN status IN ('SUCCESS', 'FAILED') OR (status = 'CANCELLED' AND (lease_until IS NULL OR lease_until < {now})) THEN 1 ELSE 0 END AS ended FROM ${database.table('compensate_biz')} WHERE id = ${BigInt(head)}`,
        );
        if (row && Number(row.ended) === 0) continue;
        const next = await database.transaction((sql) =>
          gate.handOn(sql, gateScope(type), key, String(head), () => openNext(database, table, sql, type, key)),
        );
        repaired += 1;
        if (next !== undefined) biz.wake();
      }
      const last = heads.at(-1);
      if (heads.length < 500 || last === undefined) break;
      after = last.key;
    }
  }
  return repaired;
}

function reportNewer(biz: CompensateBiz<BizTypes>, of: BizTypes): number {
  let total = 0;
  for (const type of Object.keys(of)) {
    const count = biz.newerRows.take(type);
    if (count === 0) continue;
    total += count;
    biz.emit('sweep:unknown', { type, count });
    biz.logger.warn(
      { type, count, version: of[type]?.version },
      'rows of a newer version wait for a worker that knows it; deploy it, or finish the deploy',
    );
  }
  return total;
}

async function countUnknown(biz: CompensateBiz<BizTypes>): Promise<number> {
  let unknown = 0;
  for (const { kind } of await biz.table.ready()) {
    if (Object.hasOwn(biz.types, kind) || kind === parentType) continue;
    const [row] = await biz.database.rows<{ n: string | number }>(
      `SELECT count(*) AS n FROM ${biz.database.table('compensate_biz')} WHERE status = 'WAIT_HANDLE' AND biz_type = ?`,
      [kind],
    );
    unknown += Number(row?.n);
    biz.emit('sweep:unknown', { type: kind, count: Number(row?.n) });
    biz.logger.warn(
      { type: kind, count: Number(row?.n) },
      'rows wait for a type that no handler here knows; they are left for a worker that does',
    );
  }
  return unknown;
}
