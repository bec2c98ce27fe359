import type { Database } from '@holdfast/core';

/** Rows that are counted at most. */
const most = 10_000;

/** What the sweep has still to do: runs that are old enough to be deleted, and contents to be checked. Nothing if there is nothing. */
export async function arrears(
  database: Database,
  keepRunsMs: number | undefined,
): Promise<readonly Readonly<Record<string, string | number | null>>[]> {
  const count = async (status: string, column: string, from: string, afterMs: number) => {
    const [row] = await database.rows<{ n: string | number; age: string | number | null }>(
      `SELECT count(*) AS n, {now} - MIN(d.due) - ${afterMs} AS age FROM (SELECT ${column} AS due FROM ${from} AND ${column} < {now} - ${afterMs} ORDER BY ${column} LIMIT ${most}) d`,
    );
    const n = Number(row?.n ?? 0);
    return n === 0 ? [] : [{ pool: null, language: null, status, count: n, oldestMs: Math.max(0, Number(row?.age ?? 0)) }];
  };
  const [runs, blobs] = [database.table('runner_run'), database.table('runner_blob')];
  return [
    ...(keepRunsMs === undefined
      ? []
      : await count('RUNS_TO_DELETE', 'ended_at', `${runs} WHERE phase = 'terminal'`, Math.trunc(keepRunsMs))),
    ...(await count('CONTENTS_TO_CHECK', 'look_at', `${blobs} WHERE doomed_at IS NULL`, 0)),
  ];
}
