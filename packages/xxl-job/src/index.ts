export { type ProtocolVersion, protocolVersions } from './admin/protocol.ts';
export { createExecutor, type Executor, type ExecutorOptions } from './executor.ts';
export type { JobContext, JobHandler } from './job/job-queue.ts';
export { xxlJobSchema } from './schema.ts';
