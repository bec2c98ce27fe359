import type { ExecutionRef } from '../executor/executor.ts';

/** Labels of the objects of this package. */
export const labels = {
  managedBy: 'app.kubernetes.io/managed-by',
  instance: 'app.kubernetes.io/instance',
  run: 'holdfast.dev/run',
  attempt: 'holdfast.dev/attempt',
  jobUid: 'holdfast.dev/job-uid',
} as const;
export const managedBy = 'holdfast-code-runner';
/** Records why a program was asked to end, for the worker that reads its end. */
export const becauseAnnotation = 'holdfast.dev/because';

/** The name of an attempt's objects. It is always the same, so that creating an object twice makes one. */
export function objectName({ runId, attempt }: Pick<ExecutionRef, 'runId' | 'attempt'>): string {
  return `cr-${runId}-${attempt}`;
}

export function labelsOf(ref: ExecutionRef, instance: string): Record<string, string> {
  return {
    [labels.managedBy]: managedBy,
    [labels.instance]: instance,
    [labels.run]: ref.runId,
    [labels.attempt]: String(ref.attempt),
    [labels.jobUid]: ref.jobUid,
  };
}

/** Reads the attempt of an object from its labels. */
export function refOf(found: { readonly metadata?: { readonly labels?: Readonly<Record<string, string>> } }): ExecutionRef | undefined {
  const all = found.metadata?.labels ?? {};
  const { [labels.run]: runId, [labels.attempt]: attempt, [labels.jobUid]: jobUid } = all;
  return runId && attempt && jobUid ? { runId, attempt: Number(attempt), jobUid } : undefined;
}

export function selector(instance: string): string {
  return `${labels.managedBy}=${managedBy},${labels.instance}=${instance}`;
}
