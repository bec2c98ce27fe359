import { type ClaimCap, type ClaimedRow, type Database, Slots, type SqlRunner } from '@holdfast/core';
import type { BizTypes } from './biz-type.ts';

/** Scope of a type's slots. */
function slotScope(type: string): string {
  return `compensate-biz:${type}`;
}

/** Makes the slots of those types that have a `globalConcurrency`. */
export async function ensureSlots(database: Database, types: BizTypes): Promise<void> {
  for (const [type, { globalConcurrency }] of Object.entries(types))
    if (globalConcurrency !== undefined) await new Slots(database).ensure(slotScope(type), globalConcurrency);
}

/** The cap of a type across processes: each PROCESSING row occupies one of its slots, taken in the transaction of the claim. */
export function globalCap(database: Database, type: string): ClaimCap {
  const slots = new Slots(database);
  const scope = slotScope(type);
  return async (sql, wanted, claim) => {
    const free = await slots.lockFree(sql, scope, wanted);
    if (free.length === 0) return [];
    const rows = await claim(free.length);
    const holders = rows.map((row) => row.id);
    await slots.take(sql, scope, free, holders);
    return rows;
  };
}

/** Frees the slots of rows that are PROCESSING no more, in the transaction that made them so. */
export async function freeSlots(database: Database, types: BizTypes, sql: SqlRunner, rows: readonly ClaimedRow[]): Promise<void> {
  const ids = new Map<string, string[]>();
  for (const { kind, id } of rows) {
    if (types[kind]?.globalConcurrency === undefined) continue;
    ids.set(kind, [...(ids.get(kind) ?? []), id]);
  }
  for (const [type, holders] of ids) await new Slots(database).free(sql, slotScope(type), holders);
}

/**
 * Frees slots whose row ended without doing so: cancelled while it ran (its lease is over by now), changed by older code,
 * or deleted by hand. Returns how many.
 */
export async function repairSlots(database: Database, types: BizTypes): Promise<number> {
  const slots = new Slots(database);
  let repaired = 0;
  for (const [type, { globalConcurrency }] of Object.entries(types)) {
    if (globalConcurrency === undefined) continue;
    for (const holder of await slots.holders(slotScope(type))) {
      repaired += await database.transaction(async (sql) => {
        const [row] = await sql.rows<{ live: number }>(
          `SELECT CASE WHEN status = 'PROCESSING' OR (status = 'CANCELLED' AND lease_until >= {now}) THEN 1 ELSE 0 END AS live FROM ${database.table('compensate_biz')} WHERE id = ${BigInt(holder)}${database.family === 'sqlite' ? '' : ' FOR UPDATE'}`,
        );
        return row && Number(row.live) === 1 ? 0 : slots.free(sql, slotScope(type), [holder]);
      });
    }
  }
  return repaired;
}
