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
export { type BrokerHints, type BrokerHintsOptions, brokerHints } from './broker-hints.ts';
export { HandlerTimeoutError, InvalidContextError, UnknownTypeError } from './errors.ts';
export type { BizEvents } from './events.ts';
export type { FanOutOptions, FanOutResult } from './fan-out.ts';
export type { Hint, Hints } from './hints.ts';
export type { Inspection } from './inspect.ts';
export type { SubmitOptions } from './new-row.ts';
export type { Batch, BatchItem, Run, RunOutcome } from './run.ts';
export { compensateBizSchema } from './schema.ts';
export type { SweepCounts } from './sweep.ts';
export type { BizWorker, WorkerOptions } from './worker.ts';
