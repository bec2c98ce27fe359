import type { Database, SqlRunner } from '@holdfast/core';

const index = 'compensate_biz_fan_out_unfinished';

/**
 * SQL of the table of fan-outs, as `f`, for statements with {@link unfinishedSql}. On MySQL and MariaDB the index is named: with statistics of a
 * time when every fan-out was unfinished, the server would read the whole table.
 */
export function fanOutsByUnfinished(database: Database): string {
  return `${database.table('compensate_biz_fan_out')} f${database.family === 'mysql' ? ` FORCE INDEX (${index})` : ''}`;
}

/**
 * SQL: true for a fan-out `f` that a sweep may have something to do for, in the words of its index. `unfinished` becomes NULL once the fan-out has
 * ended and no child of it is to be deleted: a service may have made any number of those. A redrive of a child makes it 1 again.
 */
export const unfinishedSql = 'f.unfinished = 1';

/**
 * Makes fan-outs unfinished again, in the order of their ids, since children of theirs are about to be redriven. It locks their rows, as every
 * transaction that changes several children does first, and counts the redrive: a sweep that looked at the fan-out before does not finish it.
 */
export async function reopenFanOuts(database: Database, sql: SqlRunner, parentIds: readonly string[]): Promise<void> {
  for (const id of parentIds.toSorted())
    await sql.run(
      `UPDATE ${database.table('compensate_biz_fan_out')} SET unfinished = 1, redriven = redriven + 1 WHERE parent_id = ${BigInt(id)}`,
    );
}
