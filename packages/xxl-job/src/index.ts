export { createExecutor, type Executor, type ExecutorOptions } from './executor.ts';
export type { JobContext, JobHandler } from './job-queue.ts';
export { type ProtocolVersion, protocolVersions } from './protocol.ts';
