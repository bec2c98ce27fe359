import type { BizTypes } from '../biz-type.ts';
import type { Registry } from '../registry.ts';
import { completeParents, openParents, parentType } from '../submit/fan-out.ts';

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

/** Takes back rows whose lease has expired. */
export async function rescueOnce(registry: Registry, adoptAfterMs: number): Promise<{ readonly rescued: number; readonly dead: number }> {
  const { table, types, effects } = registry;
  const result = await table.rescue({
    maxLost: (kind) => types[kind]?.maxLost ?? 3,
    adoptAfterMs,
    // The sweep completes the parents that are counted here.
    hook: async (sql, settled) => void (await effects.settled(sql, settled, 'rescue')),
  });
  if (result.rescued + result.dead > 0) registry.wake();
  return result;
}

/** Passes on turns and frees slots whose row ended without doing so. Returns how many. `of` restricts it to these types. */
export async function repairOnce(registry: Registry, of?: BizTypes): Promise<number> {
  const turns = await registry.effects.repairTurns(() => registry.wake(), of);
  return turns + (await registry.effects.repairSlots(of));
}

/** Completes the fan-outs among these whose children have all ended. Returns how many. */
export async function completeOnce(registry: Registry, parentIds: readonly string[]): Promise<number> {
  const completed = await completeParents(registry, parentIds);
  for (const parentId of completed) registry.events.emit('fan-out:completed', { parentId });
  return completed.length;
}

/**
 * Finds everything that was lost, in bounded steps: nothing is paged by offset over rows whose status is changing. `of`
 * restricts the work that is done type by type (turns, slots, retention) to these types.
 */
export async function sweepOnce(registry: Registry, adoptAfterMs: number = 600_000, of: BizTypes = registry.types): Promise<SweepCounts> {
  const started = performance.now();
  const { database, table, logger } = registry;
  logger.info({ types: Object.keys(of) }, 'sweep starts');
  let promoted = 0;
  for (let n = 1000; n === 1000; promoted += n) n = await table.promote(1000);
  const { rescued, dead } = await rescueOnce(registry, adoptAfterMs);
  const gates = await repairOnce(registry, of);
  const completed = await completeOnce(registry, await openParents(database));
  let purged = 0;
  for (const [type, definition] of Object.entries(of)) {
    if (definition.purgeAfterMs === undefined) continue;
    for (let n = 1; n > 0; purged += n) n = await table.purge(type, ['done'], definition.purgeAfterMs);
  }
  await registry.once.purge();
  const unknown = (await countUnknown(registry)) + reportNewer(registry, of);
  if (promoted + rescued > 0) registry.wake();
  const counts = { promoted, rescued, dead, gates, completed, purged, unknown };
  logger.info({ types: Object.keys(of), ...counts, ms: Math.round(performance.now() - started) }, 'sweep ends');
  return counts;
}

function reportNewer(registry: Registry, of: BizTypes): number {
  let total = 0;
  for (const type of Object.keys(of)) {
    const count = registry.takeNewer(type);
    if (count === 0) continue;
    total += count;
    registry.events.emit('sweep:unknown', { type, count });
    registry.logger.warn(
      { type, count, version: of[type]?.version },
      'rows of a newer version wait for a worker that knows it; deploy it, or finish the deploy',
    );
  }
  return total;
}

async function countUnknown(registry: Registry): Promise<number> {
  let unknown = 0;
  for (const { kind } of await registry.table.ready()) {
    if (Object.hasOwn(registry.types, kind) || kind === parentType) continue;
    const [row] = await registry.database.rows<{ n: string | number }>(
      `SELECT count(*) AS n FROM ${registry.database.table('compensate_biz')} WHERE status = 'WAIT_HANDLE' AND biz_type = ?`,
      [kind],
    );
    unknown += Number(row?.n);
    registry.events.emit('sweep:unknown', { type: kind, count: Number(row?.n) });
    registry.logger.warn(
      { type: kind, count: Number(row?.n) },
      'rows wait for a type that no handler here knows; they are left for a worker that does',
    );
  }
  return unknown;
}
