import { type Database, type StoredError, timestampMs } from '@holdfast/core';
import type { BizTypes, ResultOf } from '../biz-type.ts';
import type { Progress } from '../handler.ts';
import type { TaskStatus } from '../table/statuses.ts';

/** A row of one type, as {@link CompensateBiz.find} returns it. */
export interface TaskOf<Type extends string, Result = unknown> {
  /** A 64-bit number as text. */
  readonly id: string;
  readonly type: Type;
  /** As it was submitted; `undefined` if none was given. */
  readonly bizId: string | undefined;
  readonly status: TaskStatus;
  /** Failed attempts so far. */
  readonly failedAttempts: number;
  /** Starts so far, lost ones included. */
  readonly starts: number;
  /** A higher number is more urgent. */
  readonly priority: number;
  /** `''` for a row without a tenant. */
  readonly tenant: string;
  readonly subject: string | undefined;
  /** The last report of the row's run; it stays when the run has ended. */
  readonly progress: Progress | undefined;
  /** The handler's return value, once the row is SUCCESS; `undefined` if there was none. */
  readonly result: Result | undefined;
  /** The error of the last failed attempt; it stays when a later attempt succeeds. */
  readonly error: StoredError | undefined;
  /** Why the row is FAILED: `rejected`, `exhausted` or `crash-loop`. */
  readonly deadReason: string | undefined;
  /** When a SCHEDULED row is due, in ms since 1970. */
  readonly runAt: number | undefined;
  /** When the row last changed, in ms since 1970; `undefined` for a row of an adopted table whose `updated_at` is NULL. */
  readonly updatedAt: number | undefined;
}

/** A row of any of the types. Compare its `type` to narrow it. */
export type Task<Types extends BizTypes = BizTypes> = {
  readonly [Type in keyof Types & string]: TaskOf<Type, ResultOf<Types[Type]>>;
}[keyof Types & string];

/** A failed or lost attempt. */
export interface TaskAttempt {
  /** The number of the start that failed or was lost, from 1. */
  readonly number: number;
  /** `retry`, `rejected`, `exhausted` or `lost`. */
  readonly outcome: string;
  readonly error: StoredError | undefined;
  /** In ms since 1970. */
  readonly endedAt: number;
}

/** The fields that {@link CompensateBiz.get} returns beside those of {@link TaskOf}. */
export interface TaskDetails {
  /** The context as it was submitted. */
  readonly context: unknown;
  /** Failed and lost attempts, oldest first. */
  readonly attempts: readonly TaskAttempt[];
}

/** A row as the database returns it. */
export type TaskRecord = Readonly<Record<string, string | number | null>>;

/** The columns that a list shows. */
export function taskColumns(database: Database): string {
  return `${database.text('id')} AS id, biz_id, biz_type, status, cnt, starts, lost, priority, tenant, subject, last_failed_reason, dead_reason, run_progress, run_result, run_at, ${timestampMs(database.family, 'updated_at')} AS updated_ms`;
}

/** Makes a task of a row. */
export function taskOf(record: TaskRecord): TaskOf<string> {
  const text = (name: string): string | undefined => (record[name] === null ? undefined : String(record[name]));
  const status = String(record.status) as TaskStatus;
  return {
    id: String(record.id),
    type: String(record.biz_type),
    bizId: text('biz_id'),
    status,
    failedAttempts: Number(record.cnt),
    starts: Number(record.starts),
    priority: Number(record.priority ?? 0),
    tenant: String(record.tenant),
    subject: text('subject'),
    progress: parsedJson(text('run_progress')) as Progress | undefined,
    result: parsedJson(text('run_result')),
    error: storedErrorOf(record.last_failed_reason),
    deadReason: text('dead_reason'),
    runAt: status === 'SCHEDULED' && record.run_at !== null ? Number(record.run_at) : undefined,
    updatedAt: record.updated_ms === null ? undefined : Number(record.updated_ms),
  };
}

/** A row and its attempts as the details of a task. */
export function taskDetailsOf({ row, attempts }: { readonly row: TaskRecord; readonly attempts: readonly TaskRecord[] }): TaskDetails {
  return { context: parsedJson(row.context as string | null), attempts: attempts.map(attemptOf) };
}

/** Makes an attempt of a row. */
function attemptOf(record: TaskRecord): TaskAttempt {
  return {
    number: Number(record.number),
    outcome: String(record.outcome),
    error: storedErrorOf(record.error),
    endedAt: Number(record.ended_at),
  };
}

/** A stored error. Older code wrote plain text into the column. */
function storedErrorOf(stored: string | number | null | undefined): StoredError | undefined {
  if (stored === null || stored === undefined) return undefined;
  const parsed = parsedJson(String(stored));
  if (typeof parsed === 'object' && parsed !== null && 'message' in parsed) return parsed as StoredError;
  return { name: 'Error', code: 'unknown', message: String(stored) };
}

/** A JSON text as its value. A text that is not JSON, as older code may have written it, is returned as it is. */
export function parsedJson(text: string | null | undefined): unknown {
  if (text === null || text === undefined) return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
