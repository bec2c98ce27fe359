import {
  type ClaimedRow,
  checkpoint,
  exponential,
  isTransient,
  LeaseLostError,
  type Settlement,
  transactionTrace,
  wait,
} from '@holdfast/core';
import type { Knex } from 'knex';
import type { BizType } from '../biz-type.ts';
import type { Registry } from '../registry.ts';
import type { NewRow } from '../submit/new-row.ts';
import { writeRows } from '../submit/write-rows.ts';
import { keepsRow } from './keeps-row.ts';
import { doneVerdict } from './verdicts.ts';

/** Statements of a handler, run in the transaction of its success. */
export type Effects = (trx: Knex.Transaction) => unknown;

/** Rows passed to another run before their run committed. Nothing was committed. */
export class RowsPassedOnError extends LeaseLostError {
  override readonly name = 'LeaseLostError';
}

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

const maxAttempts = 6;

/**
 * Writes effects, follow-ups and SUCCESS in one transaction on the service's own knex, the settle last. Runs again when it
 * loses a race.
 * @throws LeaseLostError, and commits nothing, when a row is no longer this worker's.
 */
export async function commitRun(registry: Registry, worker: Committer, commit: Commit): Promise<void> {
  const { rows, followUps } = commit;
  const settlements = rows.map((row) => succeeded(row, commit));
  let parents = new Set<string>();
  for (let attempt = 1; ; attempt++) {
    try {
      parents = await commitOnce(registry, worker.id, commit, settlements);
      await checkpoint('commit:after');
      break;
    } catch (error) {
      const cause = (error as { cause?: unknown }).cause;
      if (attempt >= maxAttempts || !(isTransient(error) || isTransient(cause))) throw error;
      await wait(exponential({ first: 2, cap: 200 }).jitter(1).delayMs(attempt) ?? 200);
    }
  }
  for (const parent of parents) worker.onCounted(parent);
  if (followUps.length > 0 || rows.some((row) => registry.effects.admitsOthers(row))) registry.wake();
  worker.onCommitted(settlements);
}

async function commitOnce(
  registry: Registry,
  worker: string,
  { rows, effects, followUps }: Commit,
  settlements: readonly Settlement[],
): Promise<Set<string>> {
  const { database, table } = registry;
  const parents = new Set<string>();
  const hook = registry.effects.hook(settlements, worker, (parentId) => parents.add(parentId));
  const trace = await database.knex.transaction(
    async (trx) => {
      const trace = await transactionTrace(trx);
      const sql = await database.within(trx, 'commit');
      await effects(trx);
      if (followUps.length > 0) await writeRows(registry, sql, followUps);
      await checkpoint('commit:before-settle');
      const settled = await table.settleIn(sql, settlements);
      const stale = rows.filter((row) => !settled.has(row.id)).map((row) => row.id);
      if (stale.length > 0)
        throw new RowsPassedOnError(
          `Row ${stale.slice(0, 5).join(', ')} passed to another run before this one committed; its effects were rolled back. If this happens without crashes, the process is being starved or stopped for longer than the lease.`,
        );
      await hook?.(sql, settlements);
      return trace;
    },
    database.family === 'sqlite' ? {} : { isolationLevel: 'read committed' },
  );
  if (trace.outcome === 'rolled back')
    throw new LeaseLostError(
      'The server answered COMMIT with ROLLBACK: a statement in commit() failed and its error was swallowed. Let errors through.',
    );
  return parents;
}

function succeeded(row: ClaimedRow, { type, results }: Commit): Settlement {
  return { row, verdict: doneVerdict(results.get(row.id)), keep: keepsRow(type, row) };
}
