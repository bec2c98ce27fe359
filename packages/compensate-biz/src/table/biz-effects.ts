import { type ClaimedRow, type Database, KeyGate, type Settlement, type SqlRunner, type WorkTable } from '@holdfast/core';
import { gateScope } from '../submit/insert-rows.ts';

/** Adds what settled to the counts of its parents. One row per parent and worker: a single counter would serialise all. */
export async function countChildren(
  database: Database,
  sql: SqlRunner,
  worker: string,
  settled: readonly { readonly row: ClaimedRow; readonly outcome: string }[],
): Promise<string[]> {
  const counts = new Map<string, { done: number; failed: number; cancelled: number }>();
  for (const { row, outcome } of settled) {
    const parent = row.payload.parentId;
    if (parent === null || parent === undefined) continue;
    const count = counts.get(parent) ?? { done: 0, failed: 0, cancelled: 0 };
    counts.set(parent, count);
    if (outcome === 'done') count.done += 1;
    else if (outcome === 'dead') count.failed += 1;
    else if (outcome === 'cancel') count.cancelled += 1;
  }
  const changed: string[] = [];
  const t = database.table('compensate_biz_fan_out_count');
  for (const [parent, { done, failed, cancelled }] of [...counts].sort(([a], [b]) => (a < b ? -1 : 1))) {
    if (done + failed + cancelled === 0) continue;
    changed.push(parent);
    const values = `(${BigInt(parent)}, ?, ${done}, ${failed}, ${cancelled})`;
    const add = (name: string, n: number): string => `${name} = ${database.family === 'mysql' ? name : `${t}.${name}`} + ${n}`;
    const set = [add('done', done), add('failed', failed), add('cancelled', cancelled)].join(', ');
    const conflict = database.family === 'mysql' ? 'ON DUPLICATE KEY UPDATE' : 'ON CONFLICT (parent_id, worker) DO UPDATE SET';
    await sql.run(`INSERT INTO ${t} (parent_id, worker, done, failed, cancelled) VALUES ${values} ${conflict} ${set}`, [worker]);
  }
  return changed;
}

/** Opens the next row of each key whose turn ended. */
export async function handOnGates(
  database: Database,
  table: WorkTable,
  sql: SqlRunner,
  settled: readonly { readonly row: ClaimedRow; readonly outcome: string }[],
): Promise<void> {
  const gate = new KeyGate(database);
  const ended = settled.filter(
    ({ row, outcome }) => row.payload.gate !== null && (outcome === 'done' || outcome === 'dead' || outcome === 'cancel'),
  );
  for (const { row } of ended.sort((a, b) => ((a.row.payload.gate ?? '') < (b.row.payload.gate ?? '') ? -1 : 1))) {
    const key = row.payload.gate ?? '';
    await gate.handOn(sql, gateScope(row.kind), key, row.id, () => openNext(database, table, sql, row.kind, key));
  }
}

/** Makes the lowest BLOCKED row of a key READY; its id, if there was one. */
export async function openNext(
  database: Database,
  table: WorkTable,
  sql: SqlRunner,
  type: string,
  key: string,
): Promise<string | undefined> {
  const t = database.table('compensate_biz');
  const lock = database.family === 'sqlite' ? '' : ' FOR UPDATE';
  for (;;) {
    const [next] = await sql.rows<{ id: string; status: string }>(
      `SELECT ${database.text('id')} AS id, status FROM ${t} WHERE biz_type = ? AND gate = ? AND status = ${table.state('blocked')} ORDER BY ${t}.id LIMIT 1${lock}`,
      [type, key],
    );
    if (!next) return undefined;
    const opened = await sql.run(
      `UPDATE ${t} SET status = CASE WHEN run_at > {now} THEN ${table.state('scheduled')} ELSE ${table.state('ready')} END, claim_rank = ${table.rank('{now}')}, updated_at = {timestamp} WHERE id = ${BigInt(next.id)} AND status = ${table.state('blocked')}`,
    );
    if (opened === 1) return next.id;
  }
}

export function outcomes(settlements: readonly Settlement[]): { readonly row: ClaimedRow; readonly outcome: string }[] {
  return settlements.map(({ row, verdict }) => ({ row, outcome: verdict.outcome }));
}
