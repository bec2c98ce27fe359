import type { Reason, RunState } from './runs/states.ts';

/** Events of a code runner. All come after the change was committed, in this process only, and are lost with it. */
export interface CodeRunnerEvents {
  /** A run was taken out of the queue by a worker of this process. */
  'run:claimed': { readonly runId: string; readonly pool: string; readonly waitedMs: number };
  /** A run reached its end, by a worker of this process. */
  'run:ended': { readonly runId: string; readonly state: RunState; readonly reason: Reason | null };
  /** A run that this process had in hand is another's by now. */
  'run:lost': { readonly runId: string };
  /** The message of a run came back: nothing is bound to the queue. A person must look. */
  'queue:unroutable': { readonly runId: string; readonly message: string };
}
