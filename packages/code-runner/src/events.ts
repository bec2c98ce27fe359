import type { Reason, RunState } from './runs/states.ts';

/**
 * Events of a code runner. Each is emitted once, after the commit of the change, and only in the process that made the change. An
 * event is lost if that process dies between the commit and the event.
 */
export interface CodeRunnerEvents {
  /** A worker of this process took a run out of the queue. `waitedMs` is the time from the submit to the claim. */
  'run:claimed': { readonly runId: string; readonly pool: string; readonly waitedMs: number };
  /** A worker of this process ended a run. `state` is 3 (finished), 4 (failed) or 5 (terminated); `reason` says why it failed. */
  'run:ended': { readonly runId: string; readonly state: RunState; readonly reason: Reason | null };
  /** A run of this process now belongs to another worker, or was ended by one: this process was silent for longer than its lease. */
  'run:lost': { readonly runId: string };
  /** The broker returned the message of a run because no queue is bound for its pool. The run fails with PUBLISH; fix the binding. */
  'queue:unroutable': { readonly runId: string; readonly message: string };
}
