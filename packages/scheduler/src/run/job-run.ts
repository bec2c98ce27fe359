import type { Logger } from '@holdfast/core';
import type { Knex } from 'knex';

/** One attempt of a run, as its handler sees it. */
export interface JobRun {
  /** The id of the run: a 64-bit number as text. The same for all its attempts. */
  readonly id: string;
  /** The job's key. */
  readonly job: string;
  /** The instant that the trigger named; `undefined` for a run that a call asked for. */
  readonly fireAt: Date | undefined;
  /** 1 for the first attempt. */
  readonly attempt: number;
  /** Aborts when the lease is lost, when the run's timeout has passed, and when the worker has waited long enough at its stop. */
  readonly signal: AbortSignal;
  /** The service's logger, with the run's id and job. */
  readonly log: Logger;
  /** Reports how far the run is; operators see it. May be called often: it is written now and then. */
  progress(done: number, total?: number): void;
  /**
   * Runs statements, and ends the run as SUCCEEDED with its result, in one transaction. Nothing of it is written if the run has passed to another
   * worker. Return what it resolves with, or nothing.
   * @throws LeaseLostError if the run is no longer this worker's
   */
  commit(effects: (trx: Knex.Transaction) => unknown, options?: { readonly result?: unknown }): Promise<void>;
}

/** What a processor does with the parameters of a run. What it returns is the run's result: plain data of at most 256 KiB. */
export type Processor = (params: never, run: JobRun) => unknown;
