/** A run that waits, as a message says it. */
export interface Bell {
  readonly runId: string;
  readonly pool: string;
  /** Higher is more urgent. */
  readonly priority: number;
}

/** What became of a ring. `unsure`: it may have been heard or not; it is rung again. */
export type Rung = 'rung' | 'unroutable' | 'unsure';

/** What hears. */
export interface QueueListener {
  /** There may be work in the pool: look. Resolves when what was found is committed, and says whether more could be taken. */
  readonly look: (pool: string) => Promise<{ readonly room: boolean }>;
  /** The message of a run was given up by the broker. */
  readonly dead: (runId: string, why: string) => Promise<void>;
}

/** A worker that is told of new runs, until it is closed. */
export interface Listening {
  /** Whether the pool's messages are wanted: not while no slot is free. They stay in the queue, untouched. */
  want(pool: string, wanted: boolean): void;
  /** Hears of no more runs. */
  close(): Promise<void>;
}

/**
 * Doorbells. The runs' rows are the queue; a ring only says that it is worth a look. Losing one costs time, never a run: the sweep
 * rings again.
 */
export interface RunQueue {
  readonly name: string;
  /** Says that runs wait. Called after their commit. Never rejects. */
  ring(bells: readonly Bell[]): Promise<readonly Rung[]>;
  /** Tells the listener of runs in these pools, at least once each. */
  listen(pools: readonly string[], listener: QueueListener): Promise<Listening>;
  /** @throws if nothing can be rung, with the sentence to act on */
  probe(): Promise<void>;
  /** Closes what was opened. */
  close(): Promise<void>;
}

/** How a runner makes the queue that it uses, with what wakes its workers. */
export type RunQueueOf = (wake: {
  readonly ring: (pool: string) => void;
  readonly listen: (heard: (pool: string) => void) => () => void;
}) => RunQueue;
