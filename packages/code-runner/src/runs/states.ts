/**
 * What a run is doing. The phase says it exactly, the state in the words that clients know.
 *
 * ```
 *  draft --submit--> queued --claim--> claimed --create--> starting --> running --> collecting --> terminal
 *                      |  ^               |                    |           |             |
 *                      |  '-- its worker died before it had begun          |             |
 *                      '----------- stopped, queue expired, failed --------+-------------'--> (immutable)
 * ```
 * Every change is a compare-and-set on (phase, fence) and appends an event in the same transaction. `fence` grows whenever a run
 * gets another worker, so that what the one before still believes is refused.
 */
export const phases = ['draft', 'queued', 'claimed', 'starting', 'running', 'collecting', 'terminal'] as const;
/** Where a run is, from `queued` to `terminal`. */
export type Phase = (typeof phases)[number];

/** 0 not submitted, 1 queued, 2 running, 3 finished, 4 failed, 5 terminated. */
export type RunState = 0 | 1 | 2 | 3 | 4 | 5;

/** Why a run failed. */
export const reasons = [
  'EXIT_NONZERO',
  'SIGNAL',
  'OOM',
  'TIMEOUT',
  'OUTPUT_LIMIT',
  'COMPILE',
  'IMAGE',
  'UNSCHEDULABLE',
  'EVICTED',
  'NODE_LOST',
  'DISK',
  'QUEUE_EXPIRED',
  'PUBLISH',
  'INTERNAL',
] as const;
/** Why a run ended as it did. */
export type Reason = (typeof reasons)[number];

export function stateOf(phase: Phase): RunState {
  if (phase === 'draft') return 0;
  if (phase === 'running' || phase === 'collecting') return 2;
  // A terminal run's state is kept with it.
  return 1;
}

/** How a run came to its end. */
export interface Ending {
  readonly state: 3 | 4 | 5;
  readonly reason: Reason | null;
  /** For the person whose run it is. */
  readonly message: string;
  readonly exitCode?: number | null;
  readonly signal?: string | null;
}
