import type { Logger } from '@holdfast/core';
import type { RunRow } from './run.ts';
import type { RunTable } from './run-table.ts';
import type { Ending } from './states.ts';

interface FailHost {
  readonly changed: (runId: string) => void;
  readonly logger: Logger;
}

/** Fails a run whose message the broker returned, since no queue is bound for its pool. */
export async function failUnroutable(runs: RunTable, run: RunRow, message: string, { changed, logger }: FailHost): Promise<void> {
  logger.error(
    { runId: run.id, pool: run.pool },
    'the broker returned the message of a run: no queue is bound for its pool; the run has failed',
  );
  const ending = { state: 4, reason: 'PUBLISH', message: `${message}. Tell whoever operates this service.` } as const;
  await runs.end({ id: run.id, fence: run.fence, phases: ['queued'] }, ending);
  changed(run.id);
}

/** Fails a run whose message the broker moved to the dead letters, if it is still queued: the row decides. */
export async function failDead(runs: RunTable, runId: string, why: string, { changed, logger }: FailHost): Promise<void> {
  const run = await runs.find(runId);
  if (!run) {
    logger.warn({ runId, why }, 'a dead letter names a run that does not exist; it is dropped');
    return;
  }
  if (run.phase !== 'queued') return;
  const ending: Ending =
    why === 'expired'
      ? { state: 4, reason: 'QUEUE_EXPIRED', message: 'The run waited longer than the broker keeps its message. Run it again.' }
      : { state: 4, reason: 'PUBLISH', message: `The broker gave the run's message up (${why}). Tell whoever operates this service.` };
  const ended = await runs.end({ id: run.id, fence: run.fence, phases: ['queued'] }, ending);
  if (!ended) return;
  logger.error({ runId, why }, 'the broker gave the message of a run up; the run has failed');
  changed(run.id);
}
