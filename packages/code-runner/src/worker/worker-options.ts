import type { Duration } from '@holdfast/core';

/** Which pools a worker serves, and how long it may be silent. */
export interface WorkerOptions {
  /** Runs at a time in this worker. Default: as many as its pools have slots. */
  readonly concurrency?: number;
  /** Pools that this worker serves. Default: all. */
  readonly pools?: readonly string[];
  /** How long this worker counts as alive without a sign of life. Default 30 s. */
  readonly lease?: Duration;
  /** How often the sweep looks for what others left behind. Default 10 s. */
  readonly sweep?: Duration;
  /** How long `stop` waits for sandboxes of this process before it ends them. Default 30 s. What runs in a cluster goes on. */
  readonly stopAfter?: Duration;
  /** How long a program that is asked to end may take. Default 10 s. */
  readonly grace?: Duration;
  /** How long a created Job may wait for its program to start. Default 10 minutes. */
  readonly pending?: Duration;
}
