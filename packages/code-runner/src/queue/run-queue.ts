/** A signal that a run is waiting. */
export interface QueueSignal {
  readonly runId: string;
  readonly pool: string;
  /** Runs with a higher number start first. */
  readonly priority: number;
}

/** The result of sending a signal. `unsure`: the signal may or may not have arrived; the sweep sends it again. */
export type SignalResult = 'sent' | 'unroutable' | 'unsure';

/** A worker's callbacks for signals. */
export interface QueueListener {
  /** Claims runs of the pool. Resolves after the claim was committed; `room` says whether the worker could take more. */
  readonly claimMore: (pool: string) => Promise<{ readonly room: boolean }>;
  /** Called when the broker moved the message of a run to the dead letters. */
  readonly dead: (runId: string, why: string) => Promise<void>;
}

/** A worker's subscription to signals, until it is closed. */
export interface Listening {
  /** Starts or stops the delivery of a pool's signals. A worker without a free slot stops it; the messages then stay in the queue. */
  want(pool: string, wanted: boolean): void;
  /** Ends the subscription. */
  close(): Promise<void>;
}

/**
 * Tells workers that runs are waiting. The rows of the runs are the queue; a signal only makes a worker read them. A lost signal costs
 * time, never a run: the sweep sends it again, and workers poll.
 */
export interface RunQueue {
  /** For messages, such as `the database`. */
  readonly name: string;
  /** Sends signals for runs, after the commit that queued them. Returns one result per signal. Never rejects. */
  send(signals: readonly QueueSignal[]): Promise<readonly SignalResult[]>;
  /** Calls the listener for signals of these pools. A signal may be delivered more than once. */
  listen(pools: readonly string[], listener: QueueListener): Promise<Listening>;
  /** @throws if no signal can be sent; the message says how to fix it */
  probe(): Promise<void>;
  /** Closes the connections that the queue opened. */
  close(): Promise<void>;
}

/**
 * Creates the queue of a runner. `wake` carries signals over the runner's own wakers: `send` wakes the workers of a pool, `listen` calls
 * `onSignal` for each pool that may have a run, and returns a function that ends it.
 */
export type RunQueueOf = (wake: {
  readonly send: (pool: string) => void;
  readonly listen: (onSignal: (pool: string) => void) => () => void;
}) => RunQueue;
