export { type Action, type As, type Authorize, ownersOnly, type Resource } from './access.ts';
export { CodeRunner, type CodeRunnerOptions, createCodeRunner } from './code-runner.ts';
export {
  ExecutorUnavailableError,
  FileStoreError,
  ForbiddenError,
  InvalidPathError,
  InvalidZipError,
  LimitExceededError,
  LiveRunError,
  NoMainFileError,
  NotFoundError,
  RunEndedError,
  UnknownLanguageError,
  UploadCutError,
  VersionConflictError,
} from './errors.ts';
export type { CodeRunnerEvents } from './events.ts';
export type { ExecutionRef, ExecutionSpec, Executor, Isolation, LogPiece, OutputFile } from './executor/executor.ts';
export type { TreeNode } from './files/tree.ts';
export { defineLanguage, type Language } from './languages/language.ts';
export { type PythonOptions, python } from './languages/python.ts';
export { type ROptions, r } from './languages/r.ts';
export { type ScalaOptions, scala } from './languages/scala.ts';
export type { RunInspection } from './operate/inspect.ts';
export { databaseQueue } from './queue/database-queue.ts';
export type { Listening, QueueListener, QueueSignal, RunQueue, RunQueueOf, SignalResult } from './queue/run-queue.ts';
export type { Routes, RoutesOptions } from './routes/routes.ts';
export type { Decidable, Decision, Observed, Situation } from './runs/decide.ts';
export { decide } from './runs/decide.ts';
export type { RunInput } from './runs/input.ts';
export { defaultRunLimits, type Pool, type PoolOptions, type RunLimits } from './runs/limits.ts';
export type { Output } from './runs/run.ts';
export type { RunEvent } from './runs/run-event.ts';
export type { ListedRun, Run } from './runs/run-view.ts';
export type { Runs, Submit } from './runs/runs.ts';
export { type Ending, type Phase, phases, type Reason, type RunState, reasons, type Usage } from './runs/states.ts';
export { codeRunnerSchema } from './schema.ts';
export { databaseFiles, type FileStoreOf } from './store/database-files.ts';
export type { FileStore } from './store/file-store.ts';
export type { Content } from './store/spool.ts';
export { type DataSet, dataSetPrefix } from './tasks/data-sets.ts';
export type { ReadFile, TaskFiles } from './tasks/files.ts';
export { defaultTaskLimits, type TaskLimits } from './tasks/limits.ts';
export type { Task } from './tasks/task-table.ts';
export type { NewTask, Tasks } from './tasks/tasks.ts';
export type { RunnerWorker } from './worker/worker.ts';
export type { WorkerOptions } from './worker/worker-options.ts';
