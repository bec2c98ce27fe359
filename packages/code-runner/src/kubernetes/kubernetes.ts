import { type Duration, defaultLogger, durationMs, type Logger, wait } from '@holdfast/core';
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

/** Which cluster, which namespace, and how Jobs are made there. */
export interface KubernetesOptions {
  /** Where Jobs are made. It exists, with what `deploy/` puts there. */
  readonly namespace: string;
  /** A file, or one that is loaded. Default: where Kubernetes' tools look, and inside a pod its own account. */
  readonly kubeConfig?: string | KubeConfig;
  /** Tells the objects of several services in one namespace apart. Default `default`. */
  readonly instance?: string;
  /** Sandboxed run time of the nodes, for example `gvisor`. Recommended for programs of strangers. */
  readonly runtimeClassName?: string;
  /** Default: the namespace's default account. No token of it is in the pod. */
  readonly serviceAccountName?: string;
  readonly nodeSelector?: Readonly<Record<string, string>>;
  readonly tolerations?: V1PodSpec['tolerations'];
  readonly priorityClassName?: string;
  readonly imagePullSecrets?: readonly string[];
  /** User and group that programs run as. Default 10,001. */
  readonly userId?: number;
  /** How long a Job stays after its end if no worker comes to collect and delete it. Default 7 days. */
  readonly ttl?: Duration;
  /** Files up to this size, packed, go along as a ConfigMap; more by an address of the file store. Default 700 KiB. */
  readonly inlineBytes?: number;
  /** Packed results of a run, at most: they come through the API server. Default 8 MiB. */
  readonly resultBytes?: number;
  /** How long a pod may wait to be started; part of its deadlines. Default 10 minutes. */
  readonly pending?: Duration;
  /** How long a watch or a log may bring nothing before it is opened anew. Default 90 s. */
  readonly idle?: Duration;
  readonly logger?: Logger;
}

/** Runs programs as Jobs of a Kubernetes cluster. */
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
    this.#logger = options.logger ?? defaultLogger;
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
    // A Job that was made a moment ago may not have come by the watch yet; asked for by name it is there.
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
    let was = jobs.get(name) !== undefined;
    for (;;) {
      const changed = this.#next(name, signal);
      const job = jobs.get(name);
      was ||= job !== undefined;
      if (job) {
        const seen = observedOf(ref, job, this.#podOf(ref), this.#limits.get(name));
        const text = JSON.stringify(seen);
        if (text !== last) yield seen;
        last = text;
        if (seen?.status.is === 'ended') return;
      } else if (was) {
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
      const changed = this.#next(objectName(ref), signal);
      const pod = this.#podOf(ref);
      const main = pod?.status?.containerStatuses?.find(({ name }) => name === 'main')?.state;
      // Nothing of it is there any more, or ever was; what was made a moment ago may not have come by the watch.
      if (!this.#jobs?.get(objectName(ref)) && !(await this.#connected().job(objectName(ref)))) return;
      if (pod?.status?.phase === 'Failed' && !main?.terminated && !main?.running) return;
      if (pod?.metadata?.name && (main?.running || main?.terminated)) {
        // What was over before it was asked for is whole when it ends; otherwise a stream that ends may have been cut in good order.
        const over = main.terminated !== undefined;
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
          if (over) return;
        } catch (err) {
          if (signal.aborted) throw signal.reason;
          if (err instanceof ApiRefusal && err.status === 404) return;
          this.#logger.debug({ err, runId: ref.runId }, 'a log was cut off; it is gone on with');
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
   * A pod that runs is given a deadline that is over: its kubelet asks it to end, and its log and how it ended stay readable. (A Job
   * that is suspended or deleted takes them with it.) One that does not run yet is deleted.
   */
  async stop(ref: ExecutionRef, { because }: { readonly graceMs: number; readonly because?: 'OUTPUT_LIMIT' }): Promise<void> {
    const api = this.#connected();
    // Asked afresh: by a copy that is behind, a pod that has just begun to run would be deleted with its log.
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
    // Asked afresh: a copy may be behind, and what is deleted by it could be a run's that has just begun.
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
    // Files whose Job was never made.
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
    this.#jobs ??= new Watched<V1Job>({ ...common, path: this.#path('jobs'), changed: (name) => this.#tell(name) });
    this.#pods ??= new Watched<V1Pod>({ ...common, path: this.#path('pods'), changed: (name) => this.#tell(this.#ownerOf(name)) });
    await Promise.all([this.#jobs.ready(signal), this.#pods.ready(signal)]);
    return { jobs: this.#jobs, pods: this.#pods };
  }

  /** The Job's name, by its pod; nothing for a pod that is gone: then everybody looks. */
  #ownerOf(podName: string): string | undefined {
    return this.#pods?.get(podName)?.metadata?.ownerReferences?.find(({ kind }) => kind === 'Job')?.name;
  }

  #tell(name: string | undefined): void {
    const told = name === undefined ? [...this.#listeners.values()] : [this.#listeners.get(name) ?? new Set<() => void>()];
    for (const listeners of told) for (const listener of [...listeners]) listener();
  }

  #next(name: string, signal: AbortSignal): Promise<void> {
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
      `The cluster does not know this kubeconfig's user (401) when asked for ${what}. Renew its token or certificate.`,
      { cause: error },
    );
  if (error.status === 403)
    return new ExecutorUnavailableError(
      `This kubeconfig's user may not list ${what}: ${error.message}. Apply deploy/rbac.yaml, or its like.`,
      { cause: error },
    );
  if (error.status === 404)
    return new ExecutorUnavailableError(`There are no ${what}. Check the server's address and the namespace.`, { cause: error });
  return new ExecutorUnavailableError(
    `The cluster can't be asked for ${what}: ${error.message}. Check the address, and that this machine may reach it.`,
    {
      retryable: true,
      cause: error,
    },
  );
}
