/**
 * The phases of a run. A run's state is the coarser form that clients know.
 *
 * ```
 *  draft --submit--> queued --claim--> claimed --create--> starting --> running --> collecting --> terminal
 *                      |  ^               |                    |           |             |
 *                      |  '-- its worker died before the start             |             |
 *                      '----------- stopped, queue expired, failed --------+-------------'--> (immutable)
 * ```
 * Every change is a compare-and-set on (phase, fence) and appends an event in the same transaction. `fence` grows whenever a run
 * gets another worker, so that late writes of the previous worker are refused.
 */
export const phases = ['draft', 'queued', 'claimed', 'starting', 'running', 'collecting', 'terminal'] as const;
/** A phase of a run, from `draft` to `terminal`. */
export type Phase = (typeof phases)[number];

/** 0 not submitted, 1 queued, 2 running, 3 finished, 4 failed, 5 terminated. */
export type RunState = 0 | 1 | 2 | 3 | 4 | 5;

/** The reasons for which a run fails. */
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
/** The reason for which a run failed. */
export type Reason = (typeof reasons)[number];

export function stateOf(phase: Phase): RunState {
  if (phase === 'draft') return 0;
  if (phase === 'running' || phase === 'collecting') return 2;
  // The state of a run that has ended is stored in its row.
  return 1;
}

/** What a program has used, from its start to its end. `null` is what the executor can't tell. */
export interface Usage {
  /** Processor time of its processes, in ms. */
  readonly cpuMs: number | null;
  /** Time from start to end, including compilation, in ms. */
  readonly wallMs: number | null;
  /** The most bytes of memory at a time, including its files in memory and what the system has cached for it. */
  readonly peakMemoryBytes: number | null;
}

/** The end of a run: 3 finished, 4 failed, 5 terminated. */
export interface Ending {
  readonly state: 3 | 4 | 5;
  readonly reason: Reason | null;
  /** A sentence for the owner of the run. */
  readonly message: string;
  readonly exitCode?: number | null;
  readonly signal?: string | null;
  readonly usage?: Usage;
}
