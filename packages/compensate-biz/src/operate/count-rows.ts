import { compareTexts } from '@holdfast/core';
import type { Registry } from '../registry.ts';

/** The number of rows of one type and status. A count that was cut short has `atLeast: 1` beside it. */
export interface BizCount extends Readonly<Record<string, string | number | null>> {
  readonly type: string;
  readonly status: string;
  readonly count: number;
}

/** Rows of one type and status that are counted at most. */
export const countedTo = 10_000;

const endedStates = { SUCCESS: 'done', FAILED: 'dead', CANCELLED: 'cancelled' } as const;

/** Counts rows by type and status. Each statement reads a bounded part of an index. */
export async function countRows(registry: Registry): Promise<readonly BizCount[]> {
  const { database, table } = registry;
  const t = database.table('compensate_biz');
  const counts: BizCount[] = [];
  const add = (type: string, status: string, n: number): void => {
    if (n > 0) counts.push({ type, status, count: Math.min(n, countedTo), ...(n > countedTo ? { atLeast: 1 } : {}) });
  };
  const count = async (where: string, params: readonly unknown[], order: string): Promise<number> => {
    const [row] = await database.rows<{ n: string | number }>(
      `SELECT count(*) AS n FROM (SELECT 1 AS one FROM ${t} WHERE ${where} ORDER BY ${order} LIMIT ${countedTo + 1}) c`,
      params,
    );
    return Number(row?.n);
  };
  for (const [status, state] of Object.entries(endedStates))
    for (let type = ''; ; ) {
      // A loose scan: one probe for each type.
      const [next] = await database.rows<{ biz_type: string }>(
        `SELECT biz_type FROM ${t} WHERE ${table.ended(state)} AND biz_type > ? ORDER BY biz_type LIMIT 1`,
        [type],
      );
      if (!next) break;
      type = next.biz_type;
      add(type, status, await count(`${table.ended(state)} AND biz_type = ?`, [type], 'id'));
    }
  const ready = "status = 'WAIT_HANDLE' AND lost";
  for (const type of new Set((await table.ready()).map(({ kind }) => kind)))
    add(
      type,
      'WAIT_HANDLE',
      (await count(`${ready} = 0 AND biz_type = ?`, [type], 'tenant, claim_rank')) +
        (await count(`${ready} > 0 AND biz_type = ?`, [type], 'lost, claim_rank')),
    );
  const { scheduled } = table;
  // The rows, and the order of the index that holds them. MySQL and MariaDB find BLOCKED and PROCESSING rows by their status alone.
  const live = [
    ['SCHEDULED', scheduled.where, scheduled.due],
    ['BLOCKED', "status = 'BLOCKED'", database.family === 'mysql' ? 'NULL' : 'gate, id'],
    ['PROCESSING', "status = 'PROCESSING'", database.family === 'mysql' ? 'NULL' : 'lease_until'],
  ] as const;
  for (const [status, where, order] of live) {
    // No index has these rows by type. The first of them are counted; if there are more, each count is a lower limit.
    const rows = await database.rows<{ biz_type: string; n: string | number }>(
      `SELECT biz_type, count(*) AS n FROM (SELECT biz_type FROM ${t} WHERE ${where} ORDER BY ${order} LIMIT ${countedTo + 1}) c GROUP BY biz_type`,
    );
    const cut = rows.reduce((sum, { n }) => sum + Number(n), 0) > countedTo;
    for (const { biz_type: type, n } of rows)
      counts.push({ type, status, count: Math.min(Number(n), countedTo), ...(cut ? { atLeast: 1 } : {}) });
  }
  return counts.sort((a, b) => compareTexts(a.type, b.type) || compareTexts(a.status, b.status));
}
