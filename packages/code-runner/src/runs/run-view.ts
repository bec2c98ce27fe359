import { logObject } from './event-log.ts';
import type { RunLimits } from './limits.ts';
import type { ListedRow, Output, RunRow } from './run.ts';
import type { Phase, Reason, RunState, Usage } from './states.ts';

/** A run, as its owner sees it. */
export interface Run {
  readonly id: string;
  readonly taskId: string;
  readonly actor: string;
  /** 0 not submitted, 1 queued, 2 running, 3 finished, 4 failed, 5 terminated. */
  readonly state: RunState;
  readonly phase: Phase;
  /** The reason for which the run failed; `null` otherwise. */
  readonly reason: Reason | null;
  /** End of the run, as a sentence for its owner. */
  readonly message: string | null;
  readonly language: string | null;
  readonly main: string | null;
  readonly argv: readonly string[] | null;
  readonly remarks: string | null;
  readonly priority: number;
  readonly pool: string | null;
  readonly limits: RunLimits | null;
  readonly attempt: number;
  readonly exitCode: number | null;
  readonly signal: string | null;
  readonly stoppedBy: string | null;
  /** In epoch ms, by the database's clock, like the other times. */
  readonly createdAt: number;
  readonly submitTime: number | null;
  readonly startedAt: number | null;
  readonly endedAt: number | null;
  /** What the program has used; `null` before its end, and if nothing is known of it. */
  readonly usage: Usage | null;
  readonly logBytes: number;
  /** Number of the last event. */
  readonly lastSeq: number;
  /** The files that were collected from `/out`; `null` before the end. */
  readonly output: Output | null;
  readonly jobUid: string;
  /** Prefix of the run's objects in the file store. In a bucket, its files are below `code/`, its data sets below `data/`, copied by the submit. */
  readonly dirPath: string;
  /** Name of the log's object, once the run has ended. */
  readonly resLogPath: string;
  /** Prefix of the results in the file store. */
  readonly downloadPath: string;
}

/** A run as it is listed: without `output`, whose files `get` returns. */
export type ListedRun = Omit<Run, 'output'>;

export function viewOf(run: RunRow): Run {
  return { ...listedViewOf(run), output: run.output };
}

export function listedViewOf(run: ListedRow): ListedRun {
  return {
    id: run.id,
    taskId: run.taskId,
    actor: run.actor,
    state: run.state,
    phase: run.phase,
    reason: run.reason,
    message: run.message,
    language: run.language,
    main: run.main,
    argv: run.argv,
    remarks: run.remarks,
    priority: run.priority,
    pool: run.pool,
    limits: run.limits,
    attempt: run.attempt,
    exitCode: run.exitCode,
    signal: run.exitSignal,
    stoppedBy: run.stoppedBy,
    createdAt: run.createdAt,
    submitTime: run.submittedAt,
    startedAt: run.startedAt,
    endedAt: run.endedAt,
    usage: run.usage,
    logBytes: run.logBytes,
    lastSeq: run.lastSeq,
    jobUid: run.jobUid,
    dirPath: `${run.jobUid}/`,
    resLogPath: logObject(run.jobUid),
    downloadPath: `${run.jobUid}/out/`,
  };
}
