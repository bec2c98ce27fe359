export { type KubernetesOptions, kubernetes, PendingError } from './kubernetes.ts';
