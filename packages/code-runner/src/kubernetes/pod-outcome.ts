import type { V1Job, V1Pod } from '@kubernetes/client-node';
import { endingOf, failed, overLimit } from '../executor/endings.ts';
import type { ExecutionRef } from '../executor/executor.ts';
import { lost, type Observed } from '../runs/decide.ts';
import type { RunLimits } from '../runs/limits.ts';
import type { Ending } from '../runs/states.ts';
import { readTermination } from './job-manifest.ts';
import { becauseAnnotation } from './labels.ts';

const imageProblems = new Set([
  'ErrImagePull',
  'ImagePullBackOff',
  'InvalidImageName',
  'ErrImageNeverPull',
  'ImageInspectError',
  'RegistryUnavailable',
]);

/** Derives the state of an attempt from its Job and the Job's pod. Only states that Kubernetes keeps are read, never the output. */
export function observedOf(
  ref: ExecutionRef,
  job: V1Job | undefined,
  pod: V1Pod | undefined,
  limits: RunLimits | undefined,
): Observed | undefined {
  if (!job || job.metadata?.deletionTimestamp) return undefined;
  const status = statusOf(job, pod, limits);
  return { runId: ref.runId, attempt: ref.attempt, status };
}

function statusOf(job: V1Job, pod: V1Pod | undefined, limits: RunLimits | undefined): Observed['status'] {
  const end = endOf(job, pod, limits);
  const main = pod?.status?.containerStatuses?.find(({ name }) => name === 'main');
  if (end) {
    const { startedAt, finishedAt } = main?.state?.terminated ?? {};
    if (startedAt === undefined || finishedAt === undefined) return { is: 'ended', ending: end };
    // Kubernetes keeps whole seconds, and neither processor time nor memory.
    const wallMs = new Date(finishedAt).getTime() - new Date(startedAt).getTime();
    return { is: 'ended', ending: { ...end, usage: { cpuMs: null, wallMs, peakMemoryBytes: null } } };
  }
  if (main?.state?.running) {
    const at = main.state.running.startedAt;
    return { is: 'running', ...(at === undefined ? {} : { startedAt: new Date(at).getTime() }) };
  }
  const waiting = [...(pod?.status?.initContainerStatuses ?? []), ...(pod?.status?.containerStatuses ?? [])].find(({ state }) =>
    imageProblems.has(state?.waiting?.reason ?? ''),
  )?.state?.waiting;
  if (waiting) return { is: 'pending', why: 'IMAGE', message: waiting.message ?? waiting.reason ?? '' };
  const scheduled = pod?.status?.conditions?.find(({ type }) => type === 'PodScheduled');
  if (scheduled?.status === 'False') return { is: 'pending', why: 'UNSCHEDULABLE', message: scheduled.message ?? '' };
  return { is: 'pending' };
}

function endOf(job: V1Job, pod: V1Pod | undefined, limits: RunLimits | undefined): Ending | undefined {
  const conditions = job.status?.conditions ?? [];
  const jobFailed = conditions.find(({ type, status }) => type === 'Failed' && status === 'True');
  const because = pod?.metadata?.annotations?.[becauseAnnotation] ?? job.metadata?.annotations?.[becauseAnnotation];
  const main = pod?.status?.containerStatuses?.find(({ name }) => name === 'main')?.state?.terminated;
  const some = limits ?? ({ memoryBytes: 0, timeoutMs: 0, outputBytes: 0, diskBytes: 0 } as RunLimits);
  if (main) {
    const reported = readTermination(main.message);
    const code = reported.code ?? main.exitCode;
    if (because === 'OUTPUT_LIMIT') return overLimit.output(some, code);
    if (code !== 0 && main.reason === 'OOMKilled') return overLimit.memory(some, code);
    if (reported.timeout) return overLimit.time(some, code);
    const ended = code === 0 ? undefined : podEnd(pod, some);
    if (ended) return ended;
    if (main.reason === 'ContainerCannotRun' || main.reason === 'StartError')
      return failed(
        'IMAGE',
        `The language's image could not be started: ${main.message ?? main.reason}. Tell whoever operates this service.`,
      );
    return endingOf({ code, stage: reported.stage });
  }
  const init = pod?.status?.initContainerStatuses?.find(({ state }) => state?.terminated && state.terminated.exitCode !== 0)?.state
    ?.terminated;
  if (init)
    return failed(
      'INTERNAL',
      `The program's files could not be unpacked (exit code ${init.exitCode}): ${init.message ?? init.reason ?? ''}. Run it again.`,
    );
  if (pod?.status?.phase === 'Failed') return podEnd(pod, some) ?? lost;
  if (pod?.metadata?.deletionTimestamp && pod.status?.phase === 'Running') return undefined;
  if (jobFailed) {
    if (jobFailed.reason === 'DeadlineExceeded') return overLimit.time(some);
    return podEnd(pod, some) ?? lost;
  }
  return undefined;
}

/** The end of a pod for a reason other than its program. */
function podEnd(pod: V1Pod | undefined, limits: RunLimits): Ending | undefined {
  const { reason, message = '' } = pod?.status ?? {};
  if (reason === 'DeadlineExceeded') return overLimit.time(limits);
  const disrupted = pod?.status?.conditions?.find(({ type, status }) => type === 'DisruptionTarget' && status === 'True');
  if (reason === 'Evicted') {
    if (/ephemeral|emptydir|storage/i.test(message)) return overLimit.disk(limits, 'its disk');
    return failed(
      'EVICTED',
      `The program was evicted from its machine, which ran short of resources (${message.slice(0, 300)}). Run it again.`,
    );
  }
  if (disrupted) return failed('EVICTED', `The program had to leave its machine (${disrupted.reason ?? 'disruption'}). Run it again.`);
  if (reason === 'NodeLost' || reason === 'NodeShutdown' || reason === 'Terminated' || reason === 'NodeAffinity') return lost;
  return undefined;
}
