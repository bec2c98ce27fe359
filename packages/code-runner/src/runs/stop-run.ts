import type { SqlRunner } from '@holdfast/core';
import { terminated } from './decide.ts';
import type { RunRow } from './run.ts';
import type { RunTable } from './run-table.ts';

export interface StopHost {
  readonly runs: RunTable;
  /** Wakes readers of the run. */
  readonly changed: (runId: string) => void;
  /** Wakes the run's worker, which then reads that the run is to stop. */
  readonly stop: (runId: string) => void;
}

export interface Stopped {
  readonly run: RunRow;
  /** True if this call asked the run to stop: it had not ended, and nobody had asked before. */
  readonly wasFirst: boolean;
  /** True if the run has ended, or its end is already written down. */
  readonly hadEnded: boolean;
}

/**
 * Stops a run that was submitted. A queued run has ended when this returns; a running one is asked to end. `also` runs in the
 * transaction that records the wish, if this call is the first to record it.
 * @throws NotFoundError
 */
export async function stopRun(
  { runs, changed, stop }: StopHost,
  id: string,
  by: string,
  also?: (sql: SqlRunner) => Promise<void>,
): Promise<Stopped> {
  const { run, wasFirst } = await runs.wantStopped(id, by, also);
  if (run.phase === 'draft') return { run, wasFirst, hadEnded: false };
  if (run.phase === 'terminal' || (run.phase === 'collecting' && run.desired !== 'stopped')) return { run, wasFirst, hadEnded: true };
  if (run.phase === 'queued') {
    const ended = await runs.end({ id, fence: run.fence, phases: ['queued'] }, terminated);
    changed(id);
    return { run: ended ?? (await runs.get(id)), wasFirst, hadEnded: false };
  }
  stop(id);
  return { run, wasFirst, hadEnded: false };
}
