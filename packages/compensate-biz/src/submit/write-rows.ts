import type { SqlRunner } from '@holdfast/core';
import type { Registry } from '../registry.ts';
import { insertRows } from './insert-rows.ts';
import type { NewRow } from './new-row.ts';
import { type OnceKey, onceScope } from './once-key.ts';
import { replaceRow } from './replace-row.ts';

/** A submit that was accepted. It holds once its transaction commits. */
export interface Submitted {
  /** A 64-bit number as text. */
  readonly id: string;
  /** `true` when `once` found an earlier row; `id` is the id of that row. */
  readonly duplicate: boolean;
  /**
   * With `once.replace`, how the submit found the earlier row: it had not started and was `'replaced'`, or it was not touched, since it is
   * `'running'` or has `'ended'`.
   */
  readonly earlier?: 'replaced' | 'running' | 'ended';
}

type OnceRow = NewRow & { readonly once: OnceKey };

/** The most keys per statement. */
const keysPerStatement = 1000;

/**
 * Writes rows in a transaction, each under its `once` key if it has one, and returns what became of each, in order. Every submit comes
 * through here, so that none forgets an option. Locks the keys of `once` before the gates of serial types, both in one order.
 */
export async function writeRows(registry: Registry, sql: SqlRunner, rows: readonly NewRow[]): Promise<Submitted[]> {
  if (!rows.some(isOnce)) return (await insertRows(registry.database, sql, rows)).map((id) => ({ id, duplicate: false }));
  const firstOf = new Map<string, number>();
  for (const [i, row] of rows.entries()) if (isOnce(row) && !firstOf.has(nameOf(row))) firstOf.set(nameOf(row), i);
  const isFirst = (row: NewRow, i: number): boolean => !isOnce(row) || firstOf.get(nameOf(row)) === i;
  const known = await enterKeys(
    registry,
    sql,
    rows.filter(isOnce).filter((row) => rows[firstOf.get(nameOf(row)) ?? -1] === row),
  );
  const fresh = rows.flatMap((row, i) => (isFirst(row, i) && !(isOnce(row) && known.has(nameOf(row))) ? [{ row, i }] : []));
  const ids = await insertRows(
    registry.database,
    sql,
    fresh.map(({ row }) => row),
  );
  await setIds(
    registry,
    sql,
    fresh.map(({ row }, n) => ({ row, id: ids[n] ?? '' })),
  );
  const submitted: Submitted[] = new Array(rows.length);
  for (const [n, { i }] of fresh.entries()) submitted[i] = { id: ids[n] ?? '', duplicate: false };
  for (const [i, row] of rows.entries()) {
    if (submitted[i] || !isOnce(row)) continue;
    const id = known.get(nameOf(row)) ?? submitted[firstOf.get(nameOf(row)) ?? -1]?.id ?? '';
    submitted[i] = row.once.replace ? { id, duplicate: true, earlier: await replaceRow(registry, sql, id, row) } : { id, duplicate: true };
  }
  return submitted;
}

/** Records keys. Returns the ids of the rows of those that were used before, by name. */
async function enterKeys(registry: Registry, sql: SqlRunner, rows: readonly OnceRow[]): Promise<ReadonlyMap<string, string>> {
  const known = new Map<string, string>();
  const groups = Map.groupBy(rows, ({ biz_type, once }) => `${biz_type} ${once.windowMs} ${once.pending}`);
  for (const name of [...groups.keys()].sort()) {
    const group = groups.get(name) ?? [];
    const [first] = group;
    if (!first) continue;
    const byKey = new Map(group.map((row) => [row.once.key, row]));
    const stillCounts = (refs: readonly string[]) =>
      first.once.pending ? pendingIds(registry, sql, refs) : uncancelledIds(registry, sql, refs);
    const earlier = await registry.once.enterAll(sql, onceScope(first.biz_type), [...byKey.keys()], first.once.windowMs, stillCounts);
    for (const [key, ref] of earlier) known.set(nameOf(byKey.get(key) ?? first), ref ?? '');
  }
  return known;
}

async function setIds(registry: Registry, sql: SqlRunner, rows: readonly { readonly row: NewRow; readonly id: string }[]): Promise<void> {
  for (const [type, some] of Map.groupBy(
    rows.filter(({ row }) => isOnce(row)),
    ({ row }) => row.biz_type,
  ))
    for (let from = 0; from < some.length; from += keysPerStatement)
      await registry.once.setRefs(
        sql,
        onceScope(type),
        new Map(some.slice(from, from + keysPerStatement).map(({ row, id }) => [row.once?.key ?? '', id])),
      );
}

/** Those of the rows that have not ended. */
async function pendingIds(registry: Registry, sql: SqlRunner, ids: readonly string[]): Promise<ReadonlySet<string>> {
  return new Set(await idsWhere(registry, sql, ids, "status NOT IN ('SUCCESS', 'FAILED', 'CANCELLED')"));
}

/** A row that was cancelled did not do its work, and does not count: the next submit writes another. One that was purged had succeeded. */
async function uncancelledIds(registry: Registry, sql: SqlRunner, ids: readonly string[]): Promise<ReadonlySet<string>> {
  const cancelled = new Set(await idsWhere(registry, sql, ids, "status = 'CANCELLED'"));
  return new Set(ids.filter((id) => !cancelled.has(id)));
}

async function idsWhere({ database }: Registry, sql: SqlRunner, ids: readonly string[], where: string): Promise<readonly string[]> {
  const rows = await sql.rows<{ id: string }>(
    `SELECT ${database.text('id')} AS id FROM ${database.table('compensate_biz')}${database.primaryKeyHint} WHERE id IN (${ids.map((id) => BigInt(id)).join(', ')}) AND ${where}`,
  );
  return rows.map(({ id }) => id);
}

function isOnce(row: NewRow): row is OnceRow {
  // A row that an earlier release stored with a fan-out has no `once` at all.
  return (row.once ?? null) !== null;
}

function nameOf({ biz_type, once }: OnceRow): string {
  return `${biz_type} ${once.key}`;
}
