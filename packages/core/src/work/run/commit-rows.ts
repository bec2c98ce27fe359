import type { Knex } from 'knex';
import { transactionTrace } from '../../database/after-commit.ts';
import type { SqlRunner } from '../../database/sql-runner.ts';
import { isTransient } from '../../database/transient.ts';
import { LeaseLostError } from '../../errors/errors.ts';
import { checkpoint } from '../../observe/checkpoint.ts';
import { exponential } from '../../time/backoff.ts';
import { wait } from '../../time/wait.ts';
import type { SettleHook, Settlement } from '../row/settle-rows.ts';
import type { WorkTable } from '../row/work-table.ts';

/** Statements of a handler, run in the transaction of its success. */
export type Effects = (trx: Knex.Transaction) => unknown;

/** Rows passed to another run before their run committed. Nothing was committed. */
export class RowsPassedOnError extends LeaseLostError {
  override readonly name = 'LeaseLostError';
}

/** The verdicts of rows, and what is written with them. */
export interface CommitRows {
  readonly settlements: readonly Settlement[];
  readonly effects: Effects;
  /** Statements of the package after the effects. */
  readonly also?: ((sql: SqlRunner) => Promise<void>) | undefined;
  /** The effects of the settle: turns, slots, counts. */
  readonly hook?: SettleHook | undefined;
}

const maxAttempts = 6;

/**
 * Writes effects and verdicts in one transaction on the service's own knex, the verdicts last. Runs again when it loses a race.
 * @throws LeaseLostError, and commits nothing, when a row is no longer this worker's
 */
export async function commitRows(table: WorkTable, commit: CommitRows): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await commitOnce(table, commit);
      await checkpoint('commit:after');
      return;
    } catch (error) {
      const cause = (error as { cause?: unknown }).cause;
      if (attempt >= maxAttempts || !(isTransient(error) || isTransient(cause))) throw error;
      await wait(exponential({ first: 2, cap: 200 }).jitter(1).delayMs(attempt) ?? 200);
    }
  }
}

async function commitOnce(table: WorkTable, { settlements, effects, also, hook }: CommitRows): Promise<void> {
  const { database } = table;
  const trace = await database.knex.transaction(
    async (trx) => {
      const trace = await transactionTrace(trx);
      const sql = await database.within(trx, 'commit');
      await effects(trx);
      await also?.(sql);
      await checkpoint('commit:before-settle');
      const settled = await table.settleIn(sql, settlements);
      const stale = settlements.filter(({ row }) => !settled.has(row.id)).map(({ row }) => row.id);
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
}
