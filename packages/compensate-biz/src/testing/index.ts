export { TestRunLimitError } from '../errors.ts';
export { type BizTesting, type BizTestingIn, bizTesting, type RunDueOptions } from './biz-testing.ts';
export type { TaskRun } from './run-due.ts';
