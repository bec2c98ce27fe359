import type { Logger } from '@holdfast/core';
import type { ExecutionRef, Executor } from '../executor/executor.ts';
import type { RunQueue } from '../queue/run-queue.ts';
import { decidable, decide, type Observed, type Situation } from '../runs/decide.ts';
import type { EventLog } from '../runs/event-log.ts';
import type { Pool } from '../runs/limits.ts';
import type { RunRow } from '../runs/run.ts';
import type { RunTable } from '../runs/run-table.ts';
import { slotScope } from '../runs/slot-scope.ts';

export interface ReconcileOptions {
  readonly runs: RunTable;
  readonly executor: Executor;
  readonly log: EventLog;
  readonly queue: RunQueue;
  readonly pools: readonly Pool[];
  readonly situation: () => Promise<Situation>;
  /** Returns whether this worker has been in touch for long enough to tell which workers are gone. */
  readonly steady: () => boolean;
  /** Continues a run that now belongs to this worker. */
  readonly drive: (run: RunRow) => void;
  readonly drives: (runId: string) => boolean;
  readonly changed: (runId: string) => void;
  /** Once it has aborted, the pass ends after the run in hand. */
  readonly signal?: AbortSignal | undefined;
  readonly logger: Logger;
}

/** Logs that are packed per pass. */
const packAtOnce = 100;

/**
 * Makes one pass over everything without a worker: runs of workers that are gone, runs that waited too long, objects that no run needs,
 * logs that were not packed, and signals that were lost. {@link decide} says what to do with each run. Returns counts by what was done.
 */
export async function reconcile(options: ReconcileOptions): Promise<Readonly<Record<string, number>>> {
  const { runs, executor, log, queue, pools, changed, signal, logger } = options;
  const counts: Record<string, number> = {};
  const count = (what: string): void => {
    counts[what] = (counts[what] ?? 0) + 1;
  };
  // First, since it needs neither the executor nor the store, which may be unavailable.
  for (const pool of pools) {
    const next = { order: 'queue', limit: pool.slots } as const;
    const waiting = await runs.where("phase = 'queued' AND pool = ? AND desired = 'running'", [pool.name], next);
    const taken = waiting.length === 0 ? [] : await runs.slots.holders(slotScope(pool.name));
    const signals = waiting
      .slice(0, Math.max(0, pool.slots - taken.length))
      .map((run) => ({ runId: run.id, pool: pool.name, priority: run.priority }));
    if (signals.length === 0) continue;
    await queue.send(signals);
    counts.signalled = (counts.signalled ?? 0) + signals.length;
  }
  // Objects before rows: a run that is claimed in between has an object that is not listed, but its worker is alive.
  signal?.throwIfAborted();
  const objects = await executor.list();
  const at = await options.situation();
  const live = await runs.where(
    "(phase IN ('claimed', 'starting', 'running', 'collecting')) OR (phase = 'queued' AND (queue_deadline < {now} OR desired = 'stopped'))",
    [],
  );
  const byRun = new Map<string, (Observed & ExecutionRef)[]>();
  for (const object of objects) byRun.set(object.runId, [...(byRun.get(object.runId) ?? []), object]);
  for (const row of live) {
    signal?.throwIfAborted();
    const object = byRun.get(row.id)?.find(({ attempt }) => attempt === row.attempt);
    // This worker drives the run itself.
    if (row.worker === at.me && options.drives(row.id)) continue;
    // After an outage of the database all heartbeats have expired, though all workers may be alive.
    if (row.phase !== 'queued' && row.worker !== at.me && !options.steady()) continue;
    const decision = decide(decidable(row), object, at);
    const held = { id: row.id, fence: row.fence, phases: [row.phase] };
    switch (decision.do) {
      case 'end': {
        const ended = await runs.end(held, decision.ending);
        if (!ended) break;
        count(decision.ending.reason ?? 'terminated');
        if (decision.ending.reason === 'NODE_LOST') logger.warn({ runId: row.id, worker: row.worker }, 'a run was lost with its worker');
        changed(row.id);
        break;
      }
      case 'requeue':
        if (await runs.requeue(held)) {
          count('requeued');
          changed(row.id);
        }
        break;
      case 'nothing':
        break;
      default: {
        // Every other step is for the run's worker: this worker becomes it.
        const adopted = await runs.adopt(held, at.me);
        if (adopted) {
          count('adopted');
          options.drive(adopted);
        }
      }
    }
  }
  for (const object of objects) {
    signal?.throwIfAborted();
    const row = await runs.find(object.runId);
    if (decide(row && decidable(row), object, { ...at, me: row?.worker ?? at.me }).do !== 'delete') continue;
    await executor
      .remove(object)
      .catch((err) =>
        logger.warn({ err, runId: object.runId }, 'an object that no run needs could not be removed; retrying in the next sweep'),
      );
    count('deleted');
  }
  const unpacked = "phase = 'terminal' AND log_packed = 0 AND ended_at < {now} - 10000";
  for (const run of await runs.where(unpacked, [], { order: 'oldest', limit: packAtOnce })) {
    signal?.throwIfAborted();
    // A log that can't be packed does not stop the others.
    await log.pack(run).then(
      () => count('packed'),
      (err) => logger.warn({ err, runId: run.id }, 'the log of a run could not be packed; retrying in the next sweep'),
    );
  }
  return counts;
}
