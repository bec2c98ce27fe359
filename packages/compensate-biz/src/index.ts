export {
  type BatchHandler,
  type CompensateBiz,
  type CompensateBizOptions,
  createCompensateBiz,
  type Handler,
  type InTransaction,
  type ManyOptions,
  type RowTarget,
  type Submitted,
  type Submitter,
} from './biz.ts';
export {
  type BizType,
  type BizTypeOptions,
  type BizTypes,
  bizType,
  type ContextInput,
  type ContextOutput,
  type Often,
} from './biz-type.ts';
export { HandlerTimeoutError, InvalidContextError, UnknownTypeError } from './errors.ts';
export type { BizEvents } from './events.ts';
export type { Batch, BatchItem, Run, RunOutcome } from './handler.ts';
export type { Inspection } from './operate/inspect.ts';
export type { FanOutOptions, FanOutResult } from './submit/fan-out.ts';
export type { SubmitOptions } from './submit/new-row.ts';
export { compensateBizSchema } from './table/schema.ts';
export { type BrokerHints, type BrokerHintsOptions, brokerHints } from './wake/broker-hints.ts';
export type { Hint, Hints } from './wake/hints.ts';
export type { SweepCounts } from './worker/sweep.ts';
export type { BizWorker, WorkerOptions } from './worker/worker.ts';
