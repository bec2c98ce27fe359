import {
  audit,
  type BulkCounts,
  type BulkFilter,
  type BulkOptions,
  type BulkRow,
  changeInBulk,
  type Database,
  idText,
} from '@holdfast/core';
import type { Registry } from '../registry.ts';
import { redriveRows } from './steer.ts';
import { bulkCondition, type TaskCondition } from './task-query.ts';

/** Makes all rows that match run again, page by page. */
export function redriveMatching(
  registry: Registry,
  filter: BulkFilter,
  options: BulkOptions,
  redrivable: readonly string[],
): Promise<BulkCounts> {
  const { database } = registry;
  const condition = bulkCondition(database, filter, redrivable);
  const byType = condition.status === 'FAILED' && database.family !== 'mysql';
  return changeInBulk(
    {
      verb: 'redrive',
      read: (after, limit) => (byType ? readByType : readById)(database, condition, after, limit),
      change: async (ids, by) => {
        const changed = await database.transaction(async (sql) => {
          const redriven = await redriveRows(registry, sql, ids);
          if (redriven.length > 0)
            await audit(database, sql, by, 'compensate-biz:redrive', `${redriven.length} tasks, the last is ${redriven.at(-1)}`);
          return redriven;
        });
        if (changed.length > 0) registry.wake();
        return changed;
      },
    },
    options,
  );
}

/** Postgres, SQLite: in the order of the index on FAILED rows, `(biz_type, id)`. The cursor is both. */
async function readByType(
  database: Database,
  { sql, params }: TaskCondition,
  after: string | undefined,
  limit: number,
): Promise<readonly BulkRow[]> {
  const [id = '', ...words] = after?.split(' ') ?? [];
  const from = after === undefined ? [] : [words.join(' ')];
  const position = after === undefined ? '' : ` AND (biz_type, id) > (?, ${idText('after', id)})`;
  const t = database.table('compensate_biz');
  const rows = await database.rows<{ id: string; biz_type: string }>(
    `SELECT ${database.text('id')} AS id, biz_type FROM ${t} WHERE ${sql}${position} ORDER BY ${t}.biz_type, ${t}.id LIMIT ${limit}`,
    [...params, ...from],
  );
  return rows.map((row) => ({ id: row.id, cursor: `${row.id} ${row.biz_type}` }));
}

/**
 * In the order of the ids. On MySQL and MariaDB the primary key is kept out of it: the rows are few as a rule, and are found by an index that
 * begins with the status; in the order of the primary key the server would read every row of the table.
 */
async function readById(
  database: Database,
  { sql, params }: TaskCondition,
  after: string | undefined,
  limit: number,
): Promise<readonly BulkRow[]> {
  const id = database.family === 'mysql' ? 'id + 0' : 'id';
  const t = database.table('compensate_biz');
  const rows = await database.rows<{ id: string }>(
    `SELECT ${database.text('id')} AS id FROM ${t} WHERE ${sql} AND ${id} > ${idText('after', after ?? '0')} ORDER BY ${database.family === 'mysql' ? `${t}.id + 0` : `${t}.id`} LIMIT ${limit}`,
    params,
  );
  return rows.map((row) => ({ id: row.id, cursor: row.id }));
}
