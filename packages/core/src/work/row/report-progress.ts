import { updateFromValues } from '../../database/update-from-values.ts';
import type { ClaimedRow, TableSql } from './table-sql.ts';

/** A row that runs, and what its run reports, as JSON. */
export interface ProgressReport {
  readonly row: ClaimedRow;
  readonly progress: string;
}

/**
 * Writes what runs report, each under the version with which its row was claimed: the report of a run that no longer holds its row is dropped.
 * One statement by primary key. It changes no indexed column, so on Postgres it writes to no index.
 */
export async function reportProgress(work: TableSql, reports: readonly ProgressReport[]): Promise<void> {
  const { database, shape } = work;
  if (reports.length === 0 || shape.columns.progress === undefined) return;
  const update = updateFromValues(database, {
    table: shape.table,
    types: { row_id: 'id', row_version: 'integer', row_progress: 'text' },
    rows: reports.map(({ row, progress }) => ({ row_id: row.id, row_version: row.version, row_progress: progress })),
    on: `t.id = u.row_id AND t.version = u.row_version AND ${work.pinned('running')}`,
    set: { [shape.columns.progress]: 'u.row_progress', updated_at: '{timestamp}' },
  });
  await database.run(update.sql, update.params);
}
