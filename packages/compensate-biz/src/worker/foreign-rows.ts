import { type BizTypes, typeOf } from '../biz-type.ts';
import type { Registry } from '../registry.ts';

/**
 * SQL: true for an ended row `t` that other code has ended, such as the code whose table was adopted: no worker of Holdfast has started it. It
 * does not tell which rows others have CANCELLED, since a row may be cancelled before its first start.
 */
const foreignSql = 't.starts = 0';

/** SQL for the rows of a type that its retention leaves: those of other code, unless the service has given the retention. */
export function keepsForeign(types: BizTypes, type: string, state: 'done' | 'dead'): string | undefined {
  return typeOf(types, type).keepGiven[state] ? undefined : foreignSql;
}

/**
 * Says what happens to the rows that other code has ended: they are left, or deleted when the type was given a retention. Reads one row of each
 * type and state, by the index of ended rows.
 */
export async function reportForeignRows({ database, table, types, logger }: Registry): Promise<void> {
  const t = database.table('compensate_biz');
  const left: string[] = [];
  const deleted: string[] = [];
  for (const [type, { purgeAfterMs, purgeFailedAfterMs, keepGiven }] of Object.entries(types)) {
    for (const [state, status, afterMs] of [
      ['done', 'SUCCESS', purgeAfterMs],
      ['dead', 'FAILED', purgeFailedAfterMs],
    ] as const) {
      if (afterMs === undefined) continue;
      const [first] = await database.rows<{ others: number | string }>(
        `SELECT CASE WHEN ${foreignSql} THEN 1 ELSE 0 END AS others FROM ${t} t WHERE ${table.ended(state, 't.')} AND t.biz_type = ? ORDER BY t.id LIMIT 1`,
        [type],
      );
      if (Number(first?.others) === 1) (keepGiven[state] ? deleted : left).push(`${type} ${status}`);
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
