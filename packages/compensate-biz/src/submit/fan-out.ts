import { checkpoint, forUpdate, InvalidArgumentError, idText, keyText, notAPromise, type SqlRunner, wholeNumber } from '@holdfast/core';
import { type BizTypes, type ContextInput, typeOf } from '../biz-type.ts';
import { FanOutCancelledError } from '../errors.ts';
import type { Registry } from '../registry.ts';
import type { SubmitOptions } from '../submit-options.ts';
import { keyedChild, partKey } from '../table/child-key.ts';
import { parentType } from '../table/parent-type.ts';
import { requireColumnsFit } from './column-limits.ts';
import { FanOutChildren } from './fan-out-children.ts';
import { insertRows } from './insert-rows.ts';
import { type NewRow, newRow } from './new-row.ts';
import { writeRows } from './write-rows.ts';

/** Options of a fan-out. */
export interface FanOutOptions<Types extends BizTypes> {
  /** Identifies the fan-out forever: a second call with the same key continues the first, or returns its result. At most 180 characters. */
  readonly key: string;
  /** Rows per transaction. Default 1,000. */
  readonly chunk?: number;
  /**
   * Makes a key of each item, unique within the fan-out: items with the same key become one row. Default: the position of the item; the
   * source must then give the same items in the same order when it is read again.
   */
  readonly childKey?: (item: never) => string;
  /** The row that is submitted when all children have ended, in the transaction that completes the parent. Default none. */
  readonly onComplete?: {
    readonly [Type in keyof Types & string]: {
      readonly type: Type;
      readonly context: ContextInput<Types[Type]>;
      readonly options?: SubmitOptions;
    };
  }[keyof Types & string];
  /**
   * The fan-out that this one belongs to: the `run.parentId` of the child whose handler makes it. When that fan-out is cancelled, so is this one,
   * with its children. It does not wait for this one, and does not count it. Default none. Decided by the first call with the `key`.
   */
  readonly partOf?: string | undefined;
  /** Tenant of every child. Default `''`. */
  readonly tenant?: string;
  /** Priority of every child. Default 0. */
  readonly priority?: number;
}

/** A fan-out whose children are all written. */
export interface FanOutResult {
  /** The parent's row in `compensate_biz`, of type `fan-out`. */
  readonly parentId: string;
  /** Number of children. */
  readonly total: number;
}

/** The options, without the types. */
type FanOutRequest = Omit<FanOutOptions<BizTypes>, 'onComplete'> & {
  readonly onComplete?: { readonly type: string; readonly context: unknown; readonly options?: SubmitOptions } | undefined;
};

/**
 * Reads the source once, `chunk` items at a time. Each chunk commits with the number of children written so far, so that a crash in
 * mid-iteration repeats none: the next call skips that many items or, with the caller's keys, writes the children that are missing.
 * @throws FanOutCancelledError if the fan-out was cancelled: the chunk in hand is not written, and the source is read no further
 */
export async function createFanOut(
  registry: Registry,
  type: string,
  source: AsyncIterable<unknown> | Iterable<unknown>,
  options: FanOutRequest,
): Promise<FanOutResult> {
  const { database } = registry;
  database.refuseEnclosed('fanOut');
  if (typeOf(registry.types, type).serial)
    throw new InvalidArgumentError(`${type} is serial; children of a fan-out run in any order. Use another type.`);
  const chunk = wholeNumber('chunk', options.chunk ?? 1_000, { most: 5_000 });
  const parent = await openParent(registry, type, options);
  if (parent.total !== null) return { parentId: parent.id, total: Number(parent.total) };
  const submit: SubmitOptions = {
    ...(options.tenant === undefined ? {} : { tenant: options.tenant }),
    ...(options.priority === undefined ? {} : { priority: options.priority }),
  };
  const keyed = options.childKey !== undefined;
  const children = new FanOutChildren(database, { id: parent.id, key: options.key });
  // Keyed items are looked up, so none is skipped: the source may give them in another order. Others are known by their position alone.
  const skip = keyed ? 0 : Number(parent.produced);
  let produced = keyed && parent.produced !== '0' ? await children.recount() : Number(parent.produced);
  let read = 0;
  let rows: NewRow[] = [];
  const flush = async (): Promise<void> => {
    if (rows.length === 0) return;
    const batch = rows;
    rows = [];
    const written = await children.write(batch, { keyed, produced });
    if (written === undefined) throw producedElsewhere(options.key);
    produced += written;
    registry.wake();
    await checkpoint('fan-out:after-chunk');
  };
  for await (const item of source) {
    read += 1;
    if (read <= skip) continue;
    const row = await newRow(registry, type, item, submit);
    const key = options.childKey
      ? keyedChild(notAPromise('childKey', options.childKey(item as never), 'make the key of an item without waiting'))
      : `#${read}`;
    rows.push({ ...row, parent_id: parent.id, child_key: key });
    if (rows.length >= chunk) await flush();
  }
  await flush();
  const total = await children.finish(produced);
  if (total === undefined) throw producedElsewhere(options.key);
  await completeParents(registry, [parent.id]);
  return { parentId: parent.id, total };
}

function producedElsewhere(key: string): InvalidArgumentError {
  return new InvalidArgumentError(`The fan-out ${key} is being produced by another caller at the same time; let one of them finish.`);
}

async function openParent(
  registry: Registry,
  type: string,
  options: FanOutRequest,
): Promise<{ readonly id: string; readonly produced: string; readonly total: string | null }> {
  const { database, once } = registry;
  const key = keyText('key', options.key, 180);
  const { onComplete } = options;
  const complete = onComplete === undefined ? null : await newRow(registry, onComplete.type, onComplete.context, onComplete.options);
  const f = database.table('compensate_biz_fan_out');
  return database.transaction(async (sql) => {
    const scope = `compensate-biz:${parentType}`;
    const entry = await once.enter(sql, scope, key, 3650 * 86_400_000);
    let id = entry.first ? undefined : entry.ref;
    if (entry.first) {
      // A row that the table does not hold is refused before the children run, not when they have ended.
      if (complete !== null) await requireColumnsFit(database, sql, [complete]);
      if (options.partOf !== undefined) await requireOpen(registry, sql, options.partOf);
      const row: NewRow = {
        biz_id: key,
        biz_type: parentType,
        context: JSON.stringify({ type, key }),
        priority: 0,
        delayMs: 0,
        tenant: options.tenant === undefined ? '' : keyText('tenant', options.tenant, 100),
        schema_version: 1,
        subject: null,
        traceparent: null,
        parent_id: options.partOf === undefined ? null : idText('partOf', options.partOf),
        child_key: options.partOf === undefined ? null : partKey(key),
        gate: null,
        once: null,
      };
      [id] = await insertRows(database, sql, [row]);
      await sql.run(`UPDATE ${database.table('compensate_biz')} SET status = 'BLOCKED' WHERE id = ${BigInt(id ?? 0)}`);
      await sql.run(`INSERT INTO ${f} (parent_id, biz_type, on_complete) VALUES (${BigInt(id ?? 0)}, ?, ?)`, [
        type,
        complete === null ? null : JSON.stringify(complete),
      ]);
      await once.setRef(sql, scope, key, id ?? '');
    }
    const [row] = await sql.rows<{ produced: string; total: string | null; cancelled: string | number }>(
      `SELECT produced, total, cancelled FROM ${f} WHERE parent_id = ${BigInt(id ?? 0)}`,
    );
    if (row && Number(row.cancelled) === 1) throw new FanOutCancelledError(key, id ?? '');
    return { id: id ?? '', produced: row?.produced ?? '0', total: row?.total ?? null };
  });
}

/**
 * Locks a fan-out to which another is to belong, so that it is not cancelled before the other is there to be cancelled with it.
 * @throws FanOutCancelledError if it was cancelled
 * @throws InvalidArgumentError if there is none
 */
async function requireOpen({ database }: Registry, sql: SqlRunner, given: string): Promise<void> {
  const id = idText('partOf', given);
  const [fanOut] = await sql.rows<{ cancelled: string | number }>(
    `SELECT cancelled FROM ${database.table('compensate_biz_fan_out')} WHERE parent_id = ${BigInt(id)}${forUpdate(database)}`,
  );
  if (!fanOut) throw new InvalidArgumentError(`partOf is ${given}, and there is no fan-out with this id; give run.parentId.`);
  if (Number(fanOut.cancelled) === 0) return;
  const [row] = await sql.rows<{ biz_id: string }>(`SELECT biz_id FROM ${database.table('compensate_biz')} WHERE id = ${BigInt(id)}`);
  throw new FanOutCancelledError(row?.biz_id ?? '', id);
}

/**
 * Ends those parents whose children have all ended, with the `onComplete` of each in the same transaction. Returns the ids of the completed
 * parents.
 */
export async function completeParents(registry: Registry, parentIds: readonly string[], signal?: AbortSignal): Promise<string[]> {
  const completed: string[] = [];
  for (const id of parentIds) {
    if (signal?.aborted) break;
    const next = await registry.children.complete(id, async (sql, parent) => {
      const rows = typeof parent.on_complete === 'string' ? [JSON.parse(parent.on_complete) as NewRow] : [];
      if (rows.length > 0) await writeRows(registry, sql, rows);
      return rows;
    });
    if (!next) continue;
    completed.push(id);
    if (next.length > 0) registry.wake();
  }
  return completed;
}
