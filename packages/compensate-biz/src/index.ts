export { type CompensateBiz, createCompensateBiz } from './biz.ts';
export type { CompensateBizOptions } from './biz-options.ts';
export {
  type BizType,
  type BizTypeOptions,
  type BizTypes,
  bizType,
  type ContextInput,
  type ContextOutput,
  type Often,
  type ResultOf,
} from './biz-type.ts';
export {
  FanOutCancelledError,
  HandlerTimeoutError,
  InvalidContextError,
  InvalidResultError,
  UnknownTypeError,
  WaitTimeoutError,
} from './errors.ts';
export type { BizEvents } from './events.ts';
export type { Batch, BatchHandler, BatchItem, Handler, Progress, Returned, Run, RunOutcome } from './handler.ts';
export type { Inspection } from './operate/inspect.ts';
export type { Task, TaskAttempt, TaskDetails, TaskOf } from './operate/task.ts';
export type { RedriveFilter, TaskFilter, TaskQuery } from './operate/task-query.ts';
export type { WaitOptions } from './operate/wait-for-end.ts';
export type { FanOutOptions, FanOutResult } from './submit/fan-out.ts';
export type { InTransaction, ManyOptions, RowTarget, Submitter } from './submit/submitter.ts';
export type { Submitted } from './submit/write-rows.ts';
export type { SubmitOptions } from './submit-options.ts';
export { compensateBizSchema } from './table/schema.ts';
export type { TaskStatus } from './table/statuses.ts';
export { type BrokerHints, type BrokerHintsOptions, brokerHints } from './wake/broker-hints.ts';
export type { Hint, Hints } from './wake/hints.ts';
export type { SweepCounts } from './worker/sweep.ts';
export type { BizWorker, WorkerOptions } from './worker/worker.ts';
