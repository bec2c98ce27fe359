import { type Duration, durationMs, guardLogger, type Logger, wait } from '@holdfast/core';
import type { KubeConfig, V1ConfigMap, V1Job, V1Pod, V1PodSpec } from '@kubernetes/client-node';
import { ExecutorUnavailableError } from '../errors.ts';
import type { ExecutionRef, ExecutionSpec, Executor, Isolation, LogPiece, OutputFile } from '../executor/executor.ts';
import type { Observed } from '../runs/decide.ts';
import type { RunLimits } from '../runs/limits.ts';
import { collectOutput } from './collect-output.ts';
import type { JobSettings } from './job-manifest.ts';
import { ApiRefusal, KubernetesApi, loadKubeConfig } from './kubernetes-api.ts';
import { becauseAnnotation, labels, objectName, refOf, selector } from './labels.ts';
import { podLog } from './pod-log.ts';
import { observedOf } from './pod-outcome.ts';
import { startJob } from './start-job.ts';
import { Watched } from './watched.ts';

/** Options of {@link kubernetes}. */
export interface KubernetesOptions {
  /** The namespace in which Jobs are created. It must exist, with the objects of `deploy/`. */
  readonly namespace: string;
  /** Path of a kubeconfig, or a loaded one. Default: the file that `kubectl` would use, or the service account inside a pod. */
  readonly kubeConfig?: string | KubeConfig;
  /** Distinguishes the objects of several services in one namespace. Default `default`. */
  readonly instance?: string;
  /** RuntimeClass of the pods, for example `gvisor`. Recommended for programs that you do not trust. Default: that of the cluster. */
  readonly runtimeClassName?: string;
  /** Service account of the pods. Its token is not mounted. Default: the namespace's default account. */
  readonly serviceAccountName?: string;
  readonly nodeSelector?: Readonly<Record<string, string>>;
  readonly tolerations?: V1PodSpec['tolerations'];
  readonly priorityClassName?: string;
  readonly imagePullSecrets?: readonly string[];
  /** User id and group id that programs run as. Default 10,001. */
  readonly userId?: number;
  /** How long the cluster keeps a Job after its end if no worker collects and deletes it. Default 7 days. */
  readonly ttl?: Duration;
  /** Packed files up to this many bytes are sent as a ConfigMap; larger ones by an address of the file store. Default 700 KiB. */
  readonly inlineBytes?: number;
  /** The highest number of bytes of a run's packed results, which are read through the API server. Default 8 MiB. */
  readonly resultBytes?: number;
  /** The longest time that a pod may wait for its start; it is added to the deadlines of pod and Job. Default 10 minutes. */
  readonly pending?: Duration;
  /** How long a watch or a log stream may be silent before it is opened again. Default 90 s. */
  readonly idle?: Duration;
  readonly logger?: Logger;
}

/** Creates an executor that runs programs as Jobs of a Kubernetes cluster. */
export function kubernetes(options: KubernetesOptions): Executor {
  return new Kubernetes(options);
}

class Kubernetes implements Executor {
  readonly name = 'kubernetes';
  readonly scope = 'cluster';
  readonly #options: KubernetesOptions;
  readonly #settings: JobSettings;
  readonly #logger: Logger;
  readonly #idleMs: number;
  readonly #limits = new Map<string, RunLimits>();
  readonly #listeners = new Map<string, Set<() => void>>();
  #api: KubernetesApi | undefined;
  #jobs: Watched<V1Job> | undefined;
  #pods: Watched<V1Pod> | undefined;

  constructor(options: KubernetesOptions) {
    this.#options = options;
    this.#logger = guardLogger(options.logger);
    this.#idleMs = durationMs(options.idle ?? '90s', 'idle');
    this.#settings = {
      namespace: options.namespace,
      instance: options.instance ?? 'default',
      runtimeClassName: options.runtimeClassName,
      serviceAccountName: options.serviceAccountName,
      nodeSelector: options.nodeSelector,
      tolerations: options.tolerations,
      priorityClassName: options.priorityClassName,
      imagePullSecrets: options.imagePullSecrets,
      userId: options.userId ?? 10_001,
      ttlSeconds: Math.ceil(durationMs(options.ttl ?? '7d', 'ttl') / 1_000),
      pendingMs: durationMs(options.pending ?? '10m', 'pending'),
      resultBytes: options.resultBytes ?? 8 * 2 ** 20,
    };
  }

  async probe(): Promise<Isolation> {
    const api = this.#connected();
    const { namespace } = api;
    for (const [what, path] of [
      ['jobs', this.#path('jobs')],
      ['pods', this.#path('pods')],
      ['configmaps', this.#path('configmaps')],
    ] as const)
      await api.list(path, { limit: '1' }).catch((error) => {
        throw unavailable(error, `${what} of the namespace ${namespace} at ${api.server}`);
      });
    return {
      summary: `Kubernetes Jobs in ${namespace} at ${api.server}${this.#settings.runtimeClassName ? `, ${this.#settings.runtimeClassName}` : ''}`,
      details: { namespace, server: api.server, runtimeClass: this.#settings.runtimeClassName ?? false },
    };
  }

  async start(spec: ExecutionSpec): Promise<void> {
    this.#limits.set(objectName(spec), spec.limits);
    await startJob(this.#connected(), spec, { ...this.#settings, inlineBytes: this.#options.inlineBytes ?? 700 * 1_024 });
  }

  async *observe(ref: ExecutionRef, { signal }: { readonly signal: AbortSignal }): AsyncGenerator<Observed | undefined> {
    const name = objectName(ref);
    const { jobs } = await this.#watched(signal);
    let last: string | undefined;
    // The watch may not yet have seen a Job that was just created; a read by name has it.
    if (!jobs.get(name)) {
      const job = await this.#connected().job(name);
      if (job && !job.metadata?.deletionTimestamp) {
        const seen = observedOf(ref, job, undefined, this.#limits.get(name));
        last = JSON.stringify(seen);
        yield seen;
      } else {
        yield undefined;
        return;
      }
    }
    let existed = jobs.get(name) !== undefined;
    for (;;) {
      const changed = this.#nextChange(name, signal);
      const job = jobs.get(name);
      existed ||= job !== undefined;
      if (job) {
        const seen = observedOf(ref, job, this.#podOf(ref), this.#limits.get(name));
        const text = JSON.stringify(seen);
        if (text !== last) yield seen;
        last = text;
        if (seen?.status.is === 'ended') return;
      } else if (existed) {
        yield undefined;
        return;
      }
      await changed;
      signal.throwIfAborted();
    }
  }

  async *logs(
    ref: ExecutionRef,
    { after, signal }: { readonly after: string | null; readonly signal: AbortSignal },
  ): AsyncGenerator<LogPiece> {
    await this.#watched(signal);
    let position = after;
    for (let pauseMs = 100; ; pauseMs = Math.min(pauseMs * 2, 2_000)) {
      const changed = this.#nextChange(objectName(ref), signal);
      const pod = this.#podOf(ref);
      const main = pod?.status?.containerStatuses?.find(({ name }) => name === 'main')?.state;
      // The Job does not exist. Read by name, since the watch may not yet have seen one that was just created.
      if (!this.#jobs?.get(objectName(ref)) && !(await this.#connected().job(objectName(ref)))) return;
      if (pod?.status?.phase === 'Failed' && !main?.terminated && !main?.running) return;
      if (pod?.metadata?.name && (main?.running || main?.terminated)) {
        // If the container had terminated before the stream was opened, the end of the stream is the end of the log. Otherwise the
        // server may have closed the stream early.
        const complete = main.terminated !== undefined;
        try {
          for await (const piece of podLog(this.#connected(), pod.metadata.name, {
            container: 'main',
            after: position,
            follow: true,
            signal,
            idleMs: this.#idleMs,
          })) {
            position = piece.position;
            pauseMs = 100;
            yield piece;
          }
          if (complete) return;
        } catch (err) {
          if (signal.aborted) throw signal.reason;
          if (err instanceof ApiRefusal && err.status === 404) return;
          this.#logger.debug({ err, runId: ref.runId }, 'a log stream broke; reading continues');
        }
      }
      await Promise.race([changed, wait(pauseMs, signal)]);
      signal.throwIfAborted();
    }
  }

  async *output(ref: ExecutionRef, options: { readonly limit: number; readonly truncated: () => void }): AsyncGenerator<OutputFile> {
    const pod = this.#podOf(ref)?.metadata?.name;
    if (pod) yield* collectOutput(this.#connected(), pod, { ...options, runId: ref.runId, logger: this.#logger });
  }

  /**
   * Sets a deadline on a running pod that has already passed: its kubelet asks the program to end, and log and exit code stay readable.
   * (Suspending or deleting the Job would remove them.) A pod that does not run yet is deleted.
   */
  async stop(ref: ExecutionRef, { because }: { readonly graceMs: number; readonly because?: 'OUTPUT_LIMIT' }): Promise<void> {
    const api = this.#connected();
    // Read from the server: by an outdated copy, a pod that has just started would be deleted with its log.
    const labelSelector = `${selector(this.#settings.instance)},${labels.run}=${ref.runId},${labels.attempt}=${ref.attempt}`;
    const [pod] = (await api.list<{ items?: V1Pod[] }>(this.#path('pods'), { labelSelector })).items ?? [];
    if (!pod?.metadata?.name || pod.status?.phase === 'Pending') {
      await this.remove(ref);
      return;
    }
    await api.patchPod(pod.metadata.name, {
      metadata: { annotations: { [becauseAnnotation]: because ?? 'STOP' } },
      spec: { activeDeadlineSeconds: 1 },
    });
  }

  async remove(ref: ExecutionRef): Promise<void> {
    const name = objectName(ref);
    await this.#connected().deleteJob(name);
    await this.#connected().deleteConfigMap(name);
    this.#limits.delete(name);
  }

  async list(): Promise<readonly (Observed & ExecutionRef)[]> {
    const api = this.#connected();
    const labelSelector = selector(this.#settings.instance);
    const all = new Map<string, Observed & ExecutionRef>();
    // Read from the server: by an outdated copy, the object of a run that has just started could be deleted.
    const [jobs, pods, maps] = await Promise.all(
      (['jobs', 'pods', 'configmaps'] as const).map((kind) =>
        api.list<{ items?: (V1Job & V1Pod & V1ConfigMap)[] }>(this.#path(kind), { labelSelector }),
      ),
    );
    for (const job of jobs?.items ?? []) {
      const ref = refOf(job);
      if (!ref) continue;
      const pod = pods?.items?.find(({ metadata }) => metadata?.ownerReferences?.some(({ uid }) => uid === job.metadata?.uid));
      const seen = observedOf(ref, job, pod, this.#limits.get(objectName(ref)));
      if (seen) all.set(objectName(ref), { ...seen, ...ref });
    }
    // ConfigMaps whose Job was never created.
    for (const map of maps?.items ?? []) {
      const ref = refOf(map);
      if (ref && !all.has(objectName(ref))) all.set(objectName(ref), { ...ref, status: { is: 'pending' } });
    }
    return [...all.values()];
  }

  async close(): Promise<void> {
    await Promise.all([this.#jobs?.stop(), this.#pods?.stop()]);
    this.#jobs = undefined;
    this.#pods = undefined;
  }

  #podOf(ref: ExecutionRef): V1Pod | undefined {
    const uid = this.#jobs?.get(objectName(ref))?.metadata?.uid;
    for (const pod of this.#pods?.values() ?? [])
      if (uid !== undefined && pod.metadata?.ownerReferences?.some((owner) => owner.uid === uid)) return pod;
    return undefined;
  }

  async #watched(signal: AbortSignal): Promise<{ readonly jobs: Watched<V1Job>; readonly pods: Watched<V1Pod> }> {
    const common = { api: this.#connected(), selector: selector(this.#settings.instance), idleMs: this.#idleMs, logger: this.#logger };
    this.#jobs ??= new Watched<V1Job>({ ...common, path: this.#path('jobs'), changed: (name) => this.#notify(name) });
    this.#pods ??= new Watched<V1Pod>({ ...common, path: this.#path('pods'), changed: (name) => this.#notify(this.#ownerOf(name)) });
    await Promise.all([this.#jobs.ready(signal), this.#pods.ready(signal)]);
    return { jobs: this.#jobs, pods: this.#pods };
  }

  /** The name of a pod's Job; `undefined` for a pod that is gone. */
  #ownerOf(podName: string): string | undefined {
    return this.#pods?.get(podName)?.metadata?.ownerReferences?.find(({ kind }) => kind === 'Job')?.name;
  }

  /** Wakes those who wait for changes of a Job; without a name, all. */
  #notify(name: string | undefined): void {
    const notified = name === undefined ? [...this.#listeners.values()] : [this.#listeners.get(name) ?? new Set<() => void>()];
    for (const listeners of notified) for (const listener of [...listeners]) listener();
  }

  #nextChange(name: string, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const listeners = this.#listeners.get(name) ?? new Set();
      this.#listeners.set(name, listeners);
      const done = (): void => {
        listeners.delete(done);
        if (listeners.size === 0) this.#listeners.delete(name);
        signal.removeEventListener('abort', done);
        resolve();
      };
      listeners.add(done);
      signal.addEventListener('abort', done, { once: true });
    });
  }

  #path(kind: 'jobs' | 'pods' | 'configmaps'): string {
    return `${kind === 'jobs' ? '/apis/batch/v1' : '/api/v1'}/namespaces/${this.#settings.namespace}/${kind}`;
  }

  #connected(): KubernetesApi {
    this.#api ??= new KubernetesApi(loadKubeConfig(this.#options.kubeConfig), this.#settings.namespace);
    return this.#api;
  }
}

function unavailable(error: unknown, what: string): Error {
  if (!(error instanceof ApiRefusal)) return error as Error;
  if (error.status === 401)
    return new ExecutorUnavailableError(
      `The cluster does not accept the credentials of this kubeconfig (401) for listing ${what}. Renew the token or certificate.`,
      { cause: error },
    );
  if (error.status === 403)
    return new ExecutorUnavailableError(
      `This kubeconfig's user may not list ${what}: ${error.message}. Apply deploy/rbac.yaml, or grant the same rights.`,
      { cause: error },
    );
  if (error.status === 404)
    return new ExecutorUnavailableError(`The cluster has no ${what} (404). Check the server's address and the namespace.`, {
      cause: error,
    });
  return new ExecutorUnavailableError(
    `The cluster can't be reached to list ${what}: ${error.message}. Check the address, and that this machine can reach it.`,
    {
      retryable: true,
      cause: error,
    },
  );
}
