import { type BizTypes, typeOf } from '../biz-type.ts';
import type { Registry } from '../registry.ts';

/**
 * SQL: true for an ended row `t` that other code has ended, such as the code whose table was adopted: no worker of Holdfast has started it. A row
 * may be cancelled before its first start, but each cancel of Holdfast counts in its version.
 */
const foreignSql = { done: 't.starts = 0', dead: 't.starts = 0', cancelled: 't.version = 0' } as const;

/** SQL for the rows of a type that its retention leaves: those of other code, unless the service has given the retention. */
export function keepsForeign(types: BizTypes, type: string, state: keyof typeof foreignSql): string | undefined {
  const { keepGiven } = typeOf(types, type);
  return keepGiven[state === 'done' ? 'done' : 'dead'] ? undefined : foreignSql[state];
}

/**
 * Says what happens to the rows that other code has ended: they are left, or deleted when the type was given a retention. Reads one row of each
 * type and state, by the index of ended rows.
 */
export async function reportForeignRows({ database, table, types, logger }: Registry): Promise<void> {
  const t = database.table('compensate_biz');
  const left: string[] = [];
  const deleted: string[] = [];
  for (const [type, { purgeAfterMs, purgeFailedAfterMs }] of Object.entries(types)) {
    for (const [state, status, afterMs] of [
      ['done', 'SUCCESS', purgeAfterMs],
      ['dead', 'FAILED', purgeFailedAfterMs],
      ['cancelled', 'CANCELLED', purgeFailedAfterMs],
    ] as const) {
      if (afterMs === undefined) continue;
      const [first] = await database.rows<{ others: number | string }>(
        `SELECT CASE WHEN ${foreignSql[state]} THEN 1 ELSE 0 END AS others FROM ${t} t WHERE ${table.ended(state, 't.')} AND t.biz_type = ? ORDER BY t.id LIMIT 1`,
        [type],
      );
      if (Number(first?.others) === 1) (keepsForeign(types, type, state) === undefined ? deleted : left).push(`${type} ${status}`);
    }
  }
  if (left.length > 0)
    logger.warn(
      { rows: left },
      "rows of these types and statuses were ended by other code, as in an adopted table, and are left, since their types have no keep or keepFailed of their own. To delete old ones, or to end this warning, give the type a keep or keepFailed; 'all' keeps them",
    );
  if (deleted.length > 0)
    logger.warn(
      { rows: deleted },
      "rows of these types and statuses were ended by other code, as in an adopted table; the sweep deletes those that are older than the type's keep or keepFailed. Give 'all' to keep them",
    );
}
