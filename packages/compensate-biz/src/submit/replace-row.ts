import type { SqlRunner } from '@holdfast/core';
import { lockRow } from '../operate/steer.ts';
import type { Registry } from '../registry.ts';
import { hasEnded } from '../table/statuses.ts';
import { requireColumnsFit } from './column-limits.ts';
import type { NewRow } from './new-row.ts';

/**
 * Gives a row that has not started the context and the time of a newer one; a BLOCKED row stays BLOCKED. Its version goes up, so that a
 * claim under way takes the row with the new context or not at all. Its other columns, and its count of failures, stay.
 */
export async function replaceRow(registry: Registry, sql: SqlRunner, id: string, row: NewRow): Promise<'replaced' | 'running' | 'ended'> {
  const { database, table } = registry;
  const found = id === '' ? undefined : await lockRow(registry, sql, id);
  if (!found || hasEnded(found.status)) return 'ended';
  if (found.status === 'PROCESSING') return 'running';
  await requireColumnsFit(database, sql, [row]);
  const status = table.state(found.status === 'BLOCKED' ? 'blocked' : row.delayMs > 0 ? 'scheduled' : 'ready');
  const due = row.delayMs > 0 ? `{now} + ${row.delayMs}` : 'NULL';
  await sql.run(
    `UPDATE ${database.table('compensate_biz')} SET context = ?, schema_version = ${row.schema_version}, status = ${status}, version = version + 1, run_at = ${due}, claim_rank = ${table.rank(`{now} + ${row.delayMs}`)}, updated_at = {timestamp} WHERE id = ${BigInt(id)}`,
    [row.context],
  );
  return 'replaced';
}
