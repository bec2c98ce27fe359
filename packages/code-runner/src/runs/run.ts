import type { Database } from '@holdfast/core';
import type { RunLimits } from './limits.ts';
import type { Ending, Phase, Reason, RunState, Usage } from './states.ts';

/** A run's row. */
export interface RunRow {
  readonly id: string;
  readonly taskId: string;
  readonly actor: string;
  /** Names the run outside of the database: in the file store, and in a label of its Job. 32 hexadecimal digits. */
  readonly jobUid: string;
  readonly phase: Phase;
  readonly state: RunState;
  readonly reason: Reason | null;
  readonly message: string | null;
  readonly desired: 'running' | 'stopped';
  readonly stoppedBy: string | null;
  readonly fence: number;
  readonly attempt: number;
  readonly worker: string | null;
  readonly pool: string | null;
  readonly priority: number;
  readonly language: string | null;
  readonly main: string | null;
  readonly argv: readonly string[] | null;
  readonly remarks: string | null;
  readonly limits: RunLimits | null;
  readonly manifestHash: string | null;
  readonly createdAt: number;
  readonly submittedAt: number | null;
  readonly queueDeadline: number | null;
  readonly claimedAt: number | null;
  readonly startedAt: number | null;
  readonly stopAt: number | null;
  readonly endedAt: number | null;
  readonly exitCode: number | null;
  readonly exitSignal: string | null;
  readonly usage: Usage | null;
  readonly logBytes: number;
  readonly lastSeq: number;
  readonly logPacked: boolean;
  readonly logPosition: string | null;
  readonly output: Output | null;
  /** End of the run, while it is `collecting`. */
  readonly ending: Ending | null;
  readonly traceparent: string | null;
}

/** A run's row as it is listed: without the files that it left, of which there may be 10,000. */
export type ListedRow = Omit<RunRow, 'output'>;

/** The files that were collected from `/out`. */
export interface Output {
  readonly files: readonly { readonly path: string; readonly size: number }[];
  /** True if files were left out because of the limit. */
  readonly truncated: boolean;
}

const texts = ['remarks', 'message', 'argv', 'limits', 'log_position', 'ending', 'used'] as const;
const names = [
  'actor',
  'job_uid',
  'phase',
  'state',
  'reason',
  'desired',
  'stopped_by',
  'fence',
  'attempt',
  'worker',
  'pool',
  'priority',
  'language',
  'main_path',
  'manifest_hash',
  'exit_code',
  'exit_signal',
  'last_seq',
  'log_packed',
  'traceparent',
  ...texts,
] as const;
const numbers = [
  'id',
  'task_id',
  'created_at',
  'submitted_at',
  'queue_deadline',
  'claimed_at',
  'started_at',
  'stop_at',
  'ended_at',
  'log_bytes',
] as const;

type Value = string | number | null | undefined;

/** A run as the driver returns it. */
export type RawRun = Readonly<Record<string, string | number | null>>;

/** The columns of a {@link RunRow}. */
export function runColumns(database: Database): string {
  return `${listedColumns(database)}, output`;
}

/** The columns of a {@link ListedRow}. */
export function listedColumns(database: Database): string {
  return [...names, ...numbers.map((name) => `${database.text(name)} AS ${name}`)].join(', ');
}

export function runOf(row: RawRun): RunRow {
  return { ...listedOf(row), output: jsonOf(row.output) };
}

export function listedOf(row: RawRun): ListedRow {
  const number = (value: Value): number | null => (value === null || value === undefined ? null : Number(value));
  const text = (value: Value): string | null => (value === null || value === undefined ? null : String(value));
  return {
    id: String(row.id),
    taskId: String(row.task_id),
    actor: String(row.actor),
    jobUid: String(row.job_uid).trim(),
    phase: row.phase as Phase,
    state: Number(row.state) as RunState,
    reason: row.reason as Reason | null,
    message: text(row.message),
    desired: row.desired as 'running' | 'stopped',
    stoppedBy: text(row.stopped_by),
    fence: Number(row.fence),
    attempt: Number(row.attempt),
    worker: text(row.worker),
    pool: text(row.pool),
    priority: Number(row.priority),
    language: text(row.language),
    main: text(row.main_path),
    argv: jsonOf(row.argv),
    remarks: text(row.remarks),
    limits: jsonOf(row.limits),
    manifestHash: text(row.manifest_hash)?.trim() ?? null,
    createdAt: Number(row.created_at),
    submittedAt: number(row.submitted_at),
    queueDeadline: number(row.queue_deadline),
    claimedAt: number(row.claimed_at),
    startedAt: number(row.started_at),
    stopAt: number(row.stop_at),
    endedAt: number(row.ended_at),
    exitCode: number(row.exit_code),
    exitSignal: text(row.exit_signal),
    usage: jsonOf(row.used),
    logBytes: Number(row.log_bytes),
    lastSeq: Number(row.last_seq),
    logPacked: Number(row.log_packed) === 1,
    logPosition: text(row.log_position),
    ending: jsonOf(row.ending),
    traceparent: text(row.traceparent),
  };
}

function jsonOf<T>(value: Value): T | null {
  return value === null || value === undefined ? null : (JSON.parse(String(value)) as T);
}
