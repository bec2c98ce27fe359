import { type ClaimedRow, commitRows, type Effects, type Settlement } from '@holdfast/core';
import type { BizType } from '../biz-type.ts';
import type { Registry } from '../registry.ts';
import type { NewRow } from '../submit/new-row.ts';
import { writeRows } from '../submit/write-rows.ts';
import { keepsRow } from './keeps-row.ts';
import { doneVerdict } from './verdicts.ts';

/** The rows to end, and what is written with them. */
export interface Commit {
  readonly rows: readonly ClaimedRow[];
  readonly effects: Effects;
  readonly followUps: readonly NewRow[];
  /** The type of the rows. */
  readonly type: BizType<unknown, unknown>;
  /** Results as JSON, by id. */
  readonly results: ReadonlyMap<string, string>;
}

/** The worker that commits. */
export interface Committer {
  readonly id: string;
  /** Called after the commit with each fan-out parent whose counts changed. */
  readonly onCounted: (parentId: string) => void;
  /** Called after the commit with all rows. */
  readonly onCommitted: (settlements: readonly Settlement[]) => void;
}

/**
 * Writes effects, follow-ups and SUCCESS in one transaction on the service's own knex, the settle last. Runs again when it
 * loses a race.
 * @throws LeaseLostError, and commits nothing, when a row is no longer this worker's.
 */
export async function commitRun(registry: Registry, worker: Committer, commit: Commit): Promise<void> {
  const { rows, followUps, effects } = commit;
  const settlements = rows.map((row) => succeeded(row, commit));
  // A set, since the transaction may run again.
  const parents = new Set<string>();
  await commitRows(registry.table, {
    settlements,
    effects,
    also: followUps.length === 0 ? undefined : async (sql) => void (await writeRows(registry, sql, followUps)),
    hook: registry.effects.hook(settlements, worker.id, (parentId) => parents.add(parentId)),
  });
  for (const parent of parents) worker.onCounted(parent);
  if (followUps.length > 0 || rows.some((row) => registry.effects.admitsOthers(row))) registry.wake();
  worker.onCommitted(settlements);
}

function succeeded(row: ClaimedRow, { type, results }: Commit): Settlement {
  return { row, verdict: doneVerdict(results.get(row.id)), keep: keepsRow(type, row) };
}
