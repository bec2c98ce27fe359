import type { RepairExtent } from '@holdfast/core';
import type { BizTypes } from '../biz-type.ts';
import { cancelAllChildren } from '../operate/cancel.ts';
import type { Registry } from '../registry.ts';
import { completeParents } from '../submit/fan-out.ts';
import { parentType } from '../table/parent-type.ts';
import { finishFanOuts } from './finish-fan-outs.ts';
import { keepsForeign } from './foreign-rows.ts';
import { openChildSql, unclosedSql } from './purge-children.ts';

/** How long the row of a fan-out is kept after it completed or was cancelled, in ms. Which of the two is kept with its key. */
const fanOutKeptMs = 30 * 86_400_000;

/** The extent of a sweep. */
export interface SweepOptions {
  /** How long a row that code without leases has set PROCESSING may go without an update, in ms. Default 600,000. */
  readonly adoptIdleMs?: number;
  /** The types whose turns, slots and old rows are swept. Default: all. */
  readonly types?: BizTypes;
  readonly signal?: AbortSignal;
}

/** Counts of what a sweep found and repaired. */
export interface SweepCounts {
  /** SCHEDULED rows that were due and are READY now. */
  readonly promoted: number;
  /** Rows taken back from dead workers: their lease had expired. */
  readonly rescued: number;
  /** Rows that became FAILED as crash loops: they had lost too many starts. */
  readonly dead: number;
  /** Stuck serial keys and occupied slots that were released. */
  readonly gates: number;
  /** Fan-outs that were completed. */
  readonly completed: number;
  /** Children of cancelled fan-outs that were cancelled. */
  readonly cancelled: number;
  /** SUCCESS rows deleted because they were older than their type's `keep`, or, of fan-outs, than 30 days. */
  readonly purged: number;
  /** FAILED and CANCELLED rows deleted because they were older than their type's `keepFailed`, or, of fan-outs, than 30 days. */
  readonly purgedFailed: number;
  /** READY rows of types that this process does not know, and rows of a newer version that its workers met since the last sweep. */
  readonly unknown: number;
}

/** Takes back rows whose lease has expired, within the last `backMs` if it is given. */
export async function rescueOnce(
  registry: Registry,
  adoptIdleMs: number,
  backMs?: number,
  signal?: AbortSignal,
): Promise<{ readonly rescued: number; readonly dead: number }> {
  const { table, types, effects } = registry;
  const result = await table.rescue({
    maxLost: (kind) => types[kind]?.maxLost ?? 3,
    adoptAfterMs: adoptIdleMs,
    backMs,
    signal,
    // The sweep completes the parents that are counted here.
    hook: async (sql, settled) => void (await effects.settled(sql, settled, 'rescue')),
  });
  if (result.rescued + result.dead > 0) registry.wake();
  return result;
}

/** Passes on turns and frees slots of these types whose row ended without doing so. Returns how many. */
export function repairOnce(
  registry: Registry,
  extent: RepairExtent,
  types: BizTypes = registry.types,
  signal?: AbortSignal,
): Promise<number> {
  return registry.effects.repair(Object.keys(types), () => registry.wake(), extent, signal);
}

/** Completes the fan-outs among these whose children have all ended. Returns how many. */
export async function completeOnce(registry: Registry, parentIds: readonly string[], signal?: AbortSignal): Promise<number> {
  const completed = await completeParents(registry, parentIds, signal);
  for (const parentId of completed) registry.events.emit('fan-out:completed', { parentId });
  return completed.length;
}

/**
 * Finds everything that was lost, in bounded steps: nothing is paged by offset over rows whose status is changing. `types` restricts the work
 * that is done type by type (turns, slots, retention). Each step ends after the page in hand once `signal` has aborted, and no other begins.
 * @throws the reason of the signal
 */
export async function sweepOnce(
  registry: Registry,
  { adoptIdleMs = 600_000, types = registry.types, signal }: SweepOptions = {},
): Promise<SweepCounts> {
  const started = performance.now();
  const { table, logger } = registry;
  logger.info({ types: Object.keys(types) }, 'sweep starts');
  /** The result of a step, unless the sweep must end: nothing that was deleted before goes without its line in the log. */
  const step = async <T>(result: Promise<T>): Promise<T> => {
    const done = await result;
    signal?.throwIfAborted();
    return done;
  };
  let promoted = 0;
  for (let n = 1000; n === 1000; promoted += n) n = await step(table.promote(1000));
  const { rescued, dead } = await step(rescueOnce(registry, adoptIdleMs, undefined, signal));
  const gates = await step(repairOnce(registry, 'all', types, signal));
  const completed = await step(completeOnce(registry, await step(registry.children.open()), signal));
  const cancelled = await step(cancelAllChildren(registry, signal));
  const fanOuts = { kind: parentType, olderThanMs: fanOutKeptMs, signal };
  let purged = await step(table.purge({ ...fanOuts, state: 'done' }));
  let purgedFailed = await step(table.purge({ ...fanOuts, state: 'cancelled', unless: unclosedSql(registry.database) }));
  purged += await step(finishFanOuts(registry, types, signal));
  const unless = openChildSql(registry.database);
  for (const [type, { purgeAfterMs, purgeFailedAfterMs }] of Object.entries(types)) {
    if (purgeAfterMs !== undefined)
      purged += await step(
        table.purge({ kind: type, state: 'done', olderThanMs: purgeAfterMs, unless, keep: keepsForeign(types, type, 'done'), signal }),
      );
    if (purgeFailedAfterMs !== undefined) purgedFailed += await step(purgeFailed(registry, type, purgeFailedAfterMs, signal));
  }
  for (const orphans of registry.orphans) await step(orphans.sweep(signal));
  await step(registry.leases.purge());
  await step(registry.once.purge(signal));
  const unknown = (await countUnknown(registry)) + reportNewer(registry, types);
  if (promoted + rescued > 0) registry.wake();
  const counts = { promoted, rescued, dead, gates, completed, cancelled, purged, purgedFailed, unknown };
  logger.info({ types: Object.keys(types), ...counts, ms: Math.round(performance.now() - started) }, 'sweep ends');
  return counts;
}

/** Deletes FAILED and CANCELLED rows of a type, with a warning in the log: they are work that was promised. Returns how many. */
async function purgeFailed(registry: Registry, type: string, olderThanMs: number, signal: AbortSignal | undefined): Promise<number> {
  const query = { kind: type, olderThanMs, unless: openChildSql(registry.database), signal };
  const failed = await registry.table.purge({ ...query, state: 'dead', keep: keepsForeign(registry.types, type, 'dead') });
  const cancelled = await registry.table.purge({ ...query, state: 'cancelled', keep: keepsForeign(registry.types, type, 'cancelled') });
  if (failed + cancelled > 0)
    registry.logger.warn(
      { type, failed, cancelled },
      "rows that were FAILED or CANCELLED for longer than the type's keepFailed were deleted; they can't be redriven any more",
    );
  return failed + cancelled;
}

/** Reports the rows of a newer version that workers met since the last sweep. Returns how many. */
function reportNewer(registry: Registry, types: BizTypes): number {
  let total = 0;
  for (const type of Object.keys(types)) {
    const count = registry.takeNewer(type);
    if (count === 0) continue;
    total += count;
    registry.events.emit('sweep:unknown', { type, count });
    registry.logger.warn(
      { type, count, version: types[type]?.version },
      'rows of a newer version wait for a worker that knows the version; finish the deploy',
    );
  }
  return total;
}

/** Counts and reports READY rows of types that this process does not know. */
async function countUnknown(registry: Registry): Promise<number> {
  let unknown = 0;
  const ready = await registry.table.ready({ groupsPerKind: 1 });
  for (const kind of new Set(ready.map((group) => group.kind))) {
    if (Object.hasOwn(registry.types, kind) || kind === parentType) continue;
    const [row] = await registry.database.rows<{ n: string | number }>(
      // Up to a limit: a million rows of such a type may wait.
      `SELECT count(*) AS n FROM (SELECT 1 AS one FROM ${registry.database.table('compensate_biz')} WHERE status = 'WAIT_HANDLE' AND biz_type = ? LIMIT 10000) c`,
      [kind],
    );
    unknown += Number(row?.n);
    registry.events.emit('sweep:unknown', { type: kind, count: Number(row?.n) });
    registry.logger.warn(
      { type: kind, count: Number(row?.n) },
      'rows of a type that this process does not know are left for other workers; add the type to types, or cancel the rows',
    );
  }
  return unknown;
}
