import type { Duration } from '@holdfast/core';

/** Options of a worker. */
export interface WorkerOptions {
  /** Runs at a time in this worker. Default: the sum of its pools' slots. */
  readonly concurrency?: number;
  /** Names of the pools that this worker serves. Default: all pools. */
  readonly pools?: readonly string[];
  /**
   * How long this worker counts as alive after a heartbeat; heartbeats are sent every third of it. After that, other workers end or
   * continue its runs. Default 30 s, at least 300 ms.
   */
  readonly lease?: Duration;
  /** How often the sweep repairs what dead workers left behind. One worker at a time runs it. Default 10 s. */
  readonly sweep?: Duration;
  /**
   * How long `stop` waits for programs in sandboxes of this process. Then it gives up waiting and ends them with NODE_LOST. Programs in
   * a cluster continue without the worker. Steps under way, such as an upload, have two seconds more; runs whose step has not ended then are
   * logged at `warn`. Default 30 s.
   */
  readonly stopTimeout?: Duration;
  /** How long a program may take to end after it was asked to. Then it is killed. Default 10 s. */
  readonly grace?: Duration;
  /** The longest time from the claim to the start of the program. Then the run fails with UNSCHEDULABLE or IMAGE. Default 10 minutes. */
  readonly pending?: Duration;
}
