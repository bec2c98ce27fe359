import { type Duration, durationMs, InvalidArgumentError, timeoutSignal } from '@holdfast/core';
import type { RunRow } from './run.ts';
import type { RunTable } from './run-table.ts';
import type { RunWatch } from './run-watches.ts';

/** The longest wait for the end of a run. */
const mostMs = 300_000;

/** @throws InvalidArgumentError for a wait that is not a duration, or longer than 5 minutes */
export function waitOf(wait: Duration | undefined): number {
  if (wait === undefined) return 0;
  const ms = durationMs(wait, 'wait');
  if (ms > mostMs)
    throw new InvalidArgumentError(`wait is ${ms} ms; at most 5 minutes are allowed. Follow the events of the run to wait longer.`);
  return ms;
}

/** Waits until a run has ended, for at most `ms`, and returns its row as it is then. `signal` ends the wait early. */
export async function awaitEnd(
  runs: RunTable,
  watchOf: (runId: string) => RunWatch,
  id: string,
  ms: number,
  signal?: AbortSignal,
): Promise<RunRow> {
  const late = timeoutSignal(ms);
  const either = signal ? AbortSignal.any([signal, late]) : late;
  // Watches from before the first read, so that no change between a read and a wait is missed.
  using watch = watchOf(id);
  for (;;) {
    const run = await runs.get(id);
    if (run.phase === 'terminal') return run;
    if (either.aborted) return run;
    await watch.changed(either).catch((error) => {
      if (!either.aborted) throw error;
    });
  }
}
