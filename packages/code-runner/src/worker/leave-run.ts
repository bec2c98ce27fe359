import type { Logger } from '@holdfast/core';
import type { Executor } from '../executor/executor.ts';
import { terminated } from '../runs/decide.ts';
import type { RunRow } from '../runs/run.ts';
import type { RunTable } from '../runs/run-table.ts';
import type { Ending, Phase } from '../runs/states.ts';

export interface LeaveHost {
  readonly runs: RunTable;
  readonly executor: Executor;
  readonly changed: (runId: string) => void;
  readonly logger: Logger;
}

const stopped: Ending = { state: 4, reason: 'NODE_LOST', message: 'The service that ran the program was stopped. Run it again.' };

/**
 * Leaves a run of a worker that stops. If its program was not started, the run goes back to the queue. A program that runs ends with this
 * process, and its run with it, since no program is run twice unless its owner asks. `settled` is false if a step of the run has not returned,
 * which may yet start the program. If leaving fails or takes too long, another worker does it.
 */
export async function leaveRun(run: RunRow, settled: boolean, { runs, executor, changed, logger }: LeaveHost): Promise<void> {
  if (run.phase === 'terminal') return;
  try {
    const exists = settled && (await executor.list()).some(({ runId, attempt }) => runId === run.id && attempt === run.attempt);
    // The fence refuses a late step of a run in `claimed`: nothing is started before the row says `starting`.
    const notStarted: readonly Phase[] = settled && !exists ? ['claimed', 'starting'] : ['claimed'];
    // A run that is to stop is not queued again.
    if (notStarted.includes(run.phase) && (await runs.requeue({ id: run.id, fence: run.fence, phases: notStarted }))) {
      logger.info({ runId: run.id }, 'a run went back to the queue because its service was stopped');
      return;
    }
    logger.warn({ runId: run.id }, 'a run was ended because its service was stopped');
    await executor.remove({ runId: run.id, attempt: run.attempt, jobUid: run.jobUid }).catch(() => undefined);
    // Read again: a stop may have been recorded that this worker has not seen.
    const desired = (await runs.find(run.id))?.desired ?? run.desired;
    const held = { id: run.id, fence: run.fence, phases: ['claimed', 'starting', 'running', 'collecting'] as const };
    await runs.end(held, desired === 'stopped' ? terminated : stopped);
  } catch (err) {
    logger.warn({ err, runId: run.id }, 'a run could not be left in order; the sweep of another worker ends it or queues it again');
  } finally {
    changed(run.id);
  }
}
