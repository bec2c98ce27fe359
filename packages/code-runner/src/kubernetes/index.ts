export { type KubernetesOptions, kubernetes } from './kubernetes.ts';
export { PendingError } from './start-job.ts';
