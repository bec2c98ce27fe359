import type { ExecutionRef } from '../executor/executor.ts';

/** What objects of ours are known by. */
export const labels = {
  managedBy: 'app.kubernetes.io/managed-by',
  instance: 'app.kubernetes.io/instance',
  run: 'holdfast.dev/run',
  attempt: 'holdfast.dev/attempt',
  jobUid: 'holdfast.dev/job-uid',
} as const;
export const managedBy = 'holdfast-code-runner';
/** Why a program was asked to end, for whoever reads its end. */
export const becauseAnnotation = 'holdfast.dev/because';

/** The same for the same attempt, so that creating it twice makes one. */
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

/** Whose object it is, by its labels. */
export function refOf(found: { readonly metadata?: { readonly labels?: Readonly<Record<string, string>> } }): ExecutionRef | undefined {
  const all = found.metadata?.labels ?? {};
  const { [labels.run]: runId, [labels.attempt]: attempt, [labels.jobUid]: jobUid } = all;
  return runId && attempt && jobUid ? { runId, attempt: Number(attempt), jobUid } : undefined;
}

export function selector(instance: string): string {
  return `${labels.managedBy}=${managedBy},${labels.instance}=${instance}`;
}
