export { InvalidRunResultError, JobNotFoundError, RunTimeoutError } from './errors.ts';
export type { JobDefinition, JobOptions, OverlapPolicy, RetryOptions, RunSettings } from './job/definition.ts';
export type { JobRow } from './job/job-rows.ts';
export type { Jobs, SaveOptions, TriggerRunOptions } from './job/jobs.ts';
export type { MissedPolicy } from './plan/due-fires.ts';
export type { SchedulerOptions } from './registry.ts';
export type { JobRun } from './run/job-run.ts';
export { createScheduler, type Scheduler } from './scheduler.ts';
export { schedulerSchema } from './table/schema.ts';
export type { CronDialect } from './trigger/cron-expression.ts';
export { preview } from './trigger/preview.ts';
export {
  api,
  cron,
  daily,
  delay,
  every,
  once,
  type Trigger,
  type TriggerBounds,
  type TriggerOptions,
  type Weekday,
  type ZonedOptions,
} from './trigger/trigger.ts';
export type { SchedulerWorker, WorkerOptions } from './worker/worker.ts';
