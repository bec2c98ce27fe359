import { currentRows, quoted, type SqlRunner } from '@holdfast/core';
import type { Registry } from '../registry.ts';
import { hasEnded } from '../table/statuses.ts';
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

/** Keys of `once` whose ids one statement sets, at most. */
const keysPerStatement = 1000;

/**
 * Writes rows in a transaction, each under its `once` key if it has one, and returns the result for each, in order. Every submit goes through
 * this function, so that no way to submit forgets an option. Locks the keys of `once` before the gates of serial types, both in one order.
 */
export async function writeRows(registry: Registry, sql: SqlRunner, rows: readonly NewRow[]): Promise<Submitted[]> {
  if (!rows.some(isOnce)) return (await insertRows(registry.database, sql, rows)).map((id) => ({ id, duplicate: false }));
  const firstOf = new Map<string, OnceRow>();
  for (const row of rows) if (isOnce(row) && !firstOf.has(nameOf(row))) firstOf.set(nameOf(row), row);
  const known = await enterKeys(registry, sql, [...firstOf.values()]);
  const fresh = rows.filter((row) => !isOnce(row) || (firstOf.get(nameOf(row)) === row && !known.has(nameOf(row))));
  const ids = await insertRows(registry.database, sql, fresh);
  const idOf = new Map(fresh.map((row, i) => [row, ids[i] ?? '']));
  await setIds(registry, sql, idOf);
  const submitted: Submitted[] = [];
  for (const row of rows) {
    const written = idOf.get(row);
    if (written !== undefined || !isOnce(row)) {
      submitted.push({ id: written ?? '', duplicate: false });
      continue;
    }
    const id = known.get(nameOf(row)) ?? idOf.get(firstOf.get(nameOf(row)) ?? row) ?? '';
    submitted.push(row.once.replace ? { id, duplicate: true, earlier: await replaceRow(registry, sql, id, row) } : { id, duplicate: true });
  }
  return submitted;
}

/** Records keys. Returns, by the name of the key, the ids of the rows of keys that were used before. */
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

/** Stores the ids of new rows under their keys. */
async function setIds(registry: Registry, sql: SqlRunner, idOf: ReadonlyMap<NewRow, string>): Promise<void> {
  const byType = Map.groupBy(
    [...idOf].flatMap(([row, id]) => (isOnce(row) ? [{ row, id }] : [])),
    ({ row }) => row.biz_type,
  );
  for (const [type, some] of byType)
    for (let from = 0; from < some.length; from += keysPerStatement) {
      const part = some.slice(from, from + keysPerStatement);
      await registry.once.setRefs(sql, onceScope(type), new Map(part.map(({ row, id }) => [row.once.key, id])));
    }
}

/** The ids of those rows that have not ended. */
async function pendingIds(registry: Registry, sql: SqlRunner, ids: readonly string[]): Promise<ReadonlySet<string>> {
  const statuses = await statusesOf(registry, sql, ids);
  return new Set([...statuses].flatMap(([id, status]) => (hasEnded(status) ? [] : [id])));
}

/** The ids of the rows whose keys still count. A cancelled row did not do its work, so the next submit writes another; a row that is gone was purged after its end. */
async function uncancelledIds(registry: Registry, sql: SqlRunner, ids: readonly string[]): Promise<ReadonlySet<string>> {
  const statuses = await statusesOf(registry, sql, ids);
  return new Set(ids.filter((id) => statuses.get(id) !== 'CANCELLED'));
}

/** The statuses that rows have now, by their ids: by the snapshot of the caller's transaction, a submit would be lost or doubled. */
async function statusesOf({ database }: Registry, sql: SqlRunner, ids: readonly string[]): Promise<ReadonlyMap<string, string>> {
  const t = database.table('compensate_biz');
  const rows = await currentRows<{ key: string; status: string }>(database, sql, ids, (some, lock) => ({
    sql: `SELECT ${database.text('id')} AS ${quoted(database, 'key')}, status FROM ${t}${database.primaryKeyHint} WHERE id IN (${some.map((id) => BigInt(id)).join(', ')}) ORDER BY ${t}.id${lock}`,
    params: [],
  }));
  return new Map(rows.map(({ key, status }) => [key, status]));
}

function isOnce(row: NewRow): row is OnceRow {
  // A row that an earlier release stored with a fan-out has no `once` at all.
  return (row.once ?? null) !== null;
}

/** A `once` key with its type: keys of different types never meet. */
function nameOf({ biz_type, once }: OnceRow): string {
  return `${biz_type} ${once.key}`;
}
