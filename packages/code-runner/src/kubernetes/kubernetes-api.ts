import type { IncomingMessage } from 'node:http';
import https from 'node:https';
import { text } from 'node:stream/consumers';
import {
  BatchV1Api,
  CoreV1Api,
  KubeConfig,
  PatchStrategy,
  setHeaderOptions,
  type V1ConfigMap,
  type V1Job,
  type V1Pod,
} from '@kubernetes/client-node';
import { ExecutorUnavailableError } from '../errors.ts';

/** What the API server answered instead of doing what was asked. `unknown`: it may have done it. */
export class ApiRefusal extends Error {
  readonly status: number | 'unknown';
  readonly reason: string | undefined;
  readonly retryAfterMs: number | undefined;

  constructor(
    message: string,
    status: number | 'unknown',
    more: { readonly reason?: string | undefined; readonly retryAfterMs?: number | undefined; readonly cause?: unknown } = {},
  ) {
    super(message, more.cause === undefined ? undefined : { cause: more.cause });
    this.name = 'ApiRefusal';
    this.status = status;
    this.reason = more.reason;
    this.retryAfterMs = more.retryAfterMs;
  }
}

/** How long an answer is waited for. Then what was asked may have been done or not. */
const answerMs = 15_000;

/** The API server: typed calls for what is made and removed, streams of our own for what is watched and read. */
export class KubernetesApi {
  readonly namespace: string;
  readonly #config: KubeConfig;
  readonly #batch: BatchV1Api;
  readonly #core: CoreV1Api;

  constructor(config: KubeConfig, namespace: string) {
    this.namespace = namespace;
    this.#config = config;
    const cluster = config.getCurrentCluster();
    if (!cluster)
      throw new ExecutorUnavailableError(
        'The kubeconfig names no cluster for its current context; set one with kubectl config use-context.',
      );
    this.#batch = config.makeApiClient(BatchV1Api);
    this.#core = config.makeApiClient(CoreV1Api);
  }

  get server(): string {
    return this.#config.getCurrentCluster()?.server ?? '';
  }

  createJob(body: V1Job): Promise<V1Job> {
    return ask(this.#batch.createNamespacedJob({ namespace: this.namespace, body }));
  }

  job(name: string): Promise<V1Job | undefined> {
    return orNothing(ask(this.#batch.readNamespacedJob({ namespace: this.namespace, name })));
  }

  /** With its pods: deleting a Job by the API leaves them behind, unless it is said. */
  async deleteJob(name: string): Promise<void> {
    await orNothing(ask(this.#batch.deleteNamespacedJob({ namespace: this.namespace, name, propagationPolicy: 'Background' })));
  }

  createConfigMap(body: V1ConfigMap): Promise<V1ConfigMap> {
    return ask(this.#core.createNamespacedConfigMap({ namespace: this.namespace, body }));
  }

  async deleteConfigMap(name: string): Promise<void> {
    await orNothing(ask(this.#core.deleteNamespacedConfigMap({ namespace: this.namespace, name })));
  }

  async patchPod(name: string, body: object): Promise<V1Pod | undefined> {
    const options = setHeaderOptions('Content-Type', PatchStrategy.MergePatch);
    return orNothing(ask(this.#core.patchNamespacedPod({ namespace: this.namespace, name, body }, options)));
  }

  /** A list, as it is; types of the client's own leave out what they don't know. */
  async list<T>(path: string, query: Readonly<Record<string, string>>, signal?: AbortSignal): Promise<T> {
    const response = await this.stream(path, query, { signal, idleMs: answerMs });
    return JSON.parse(await text(response)) as T;
  }

  /** An answer as it comes. Resolves with its head; rejects unless that is 200. */
  async stream(
    path: string,
    query: Readonly<Record<string, string>>,
    options: { readonly signal?: AbortSignal | undefined; readonly idleMs: number },
  ): Promise<IncomingMessage> {
    const url = new URL(`${this.server.replace(/\/$/, '')}${path}`);
    for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
    const request: https.RequestOptions = {};
    await this.#config.applyToHTTPSOptions(request);
    options.signal?.throwIfAborted();
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      // Aborting ends the stream as well, however far it is.
      const sent = https.get(url, { ...request, ...(options.signal ? { signal: options.signal } : {}) }, resolve);
      // Nothing for so long: a connection that is only half there.
      sent.setTimeout(options.idleMs, () => sent.destroy(new Error(`nothing came from ${url.host} for ${options.idleMs} ms`)));
      sent.on('error', (error) => reject(new ApiRefusal(`${url.host}: ${error.message}`, 'unknown', { cause: error })));
    });
    if (response.statusCode === 200) return response;
    const body = await text(response).catch(() => '');
    throw refusalOf(response.statusCode ?? 0, body, response.headers['retry-after']);
  }
}

/** A kubeconfig, from a file, from what is given, or from where Kubernetes' tools look. @throws ExecutorUnavailableError */
export function loadKubeConfig(source: KubeConfig | string | undefined): KubeConfig {
  if (source instanceof KubeConfig) return source;
  const config = new KubeConfig();
  try {
    if (source === undefined) config.loadFromDefault();
    else config.loadFromFile(source);
  } catch (cause) {
    throw new ExecutorUnavailableError(
      `The kubeconfig ${source ?? '(from KUBECONFIG, ~/.kube/config or the pod)'} can't be read: ${(cause as Error).message}. Name one with kubeConfig, or set KUBECONFIG.`,
      { cause },
    );
  }
  return config;
}

async function ask<T>(call: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new ApiRefusal(`the API server did not answer within ${answerMs} ms`, 'unknown')), answerMs);
  });
  try {
    return await Promise.race([call, late]);
  } catch (error) {
    if (error instanceof ApiRefusal) throw error;
    const { code, body, headers } = error as { code?: unknown; body?: unknown; headers?: Record<string, string> };
    if (typeof code === 'number') throw refusalOf(code, typeof body === 'string' ? body : JSON.stringify(body), headers?.['retry-after']);
    const { message, cause } = error as Error;
    throw new ApiRefusal(`${message}${cause instanceof Error ? `: ${cause.message}` : ''}`, 'unknown', { cause: error });
  } finally {
    clearTimeout(timer);
  }
}

function refusalOf(status: number, body: string, retryAfter: string | undefined): ApiRefusal {
  let said: { message?: string; reason?: string } = {};
  try {
    said = JSON.parse(body) as typeof said;
  } catch {
    // A proxy's page, or nothing.
  }
  const seconds = Number(retryAfter);
  // What a server fails at halfway may have been done.
  return new ApiRefusal(said.message ?? `the API server answered ${status}`, status >= 500 ? 'unknown' : status, {
    reason: said.reason,
    retryAfterMs: Number.isFinite(seconds) && seconds > 0 ? seconds * 1_000 : undefined,
  });
}

async function orNothing<T>(call: Promise<T>): Promise<T | undefined> {
  try {
    return await call;
  } catch (error) {
    if (error instanceof ApiRefusal && error.status === 404) return undefined;
    throw error;
  }
}
