export { type Fault, type KubernetesDouble, type KubernetesDoubleOptions, kubernetesDouble } from './cluster/kubernetes-double.ts';
export { type ContractApi, type ExecutorUnderTest, executorContract } from './executor-contract.ts';
export { restrictedViolations } from './pod-security.ts';
