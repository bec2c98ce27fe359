import type { IncomingMessage } from 'node:http';
import https from 'node:https';
import { text } from 'node:stream/consumers';
import { boundedCall } from '@holdfast/core';
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

/** A request that the API server refused. `unknown`: the server may have done what was requested. */
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

/** How long to wait for an answer. After that, it is unknown whether the request was carried out. */
const answerMs = 15_000;

/** The API server: typed calls for changes, and our own streams for watches and logs. */
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
      throw new ExecutorUnavailableError('The kubeconfig has no cluster for its current context; set one with kubectl config use-context.');
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

  /** Deletes a Job with its pods, which the API would otherwise leave behind. */
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

  /** Returns a list as the server sends it; the client's own types drop fields that they don't know. */
  async list<T>(path: string, query: Readonly<Record<string, string>>, signal?: AbortSignal): Promise<T> {
    const response = await this.stream(path, query, { signal, idleMs: answerMs });
    return JSON.parse(await text(response)) as T;
  }

  /** Opens an answer as a stream. Resolves with its head; rejects unless the status is 200. */
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
      // An abort ends the stream, too.
      const sent = https.get(url, { ...request, ...(options.signal ? { signal: options.signal } : {}) }, resolve);
      // A silent connection may be half open.
      sent.setTimeout(options.idleMs, () => sent.destroy(new Error(`${url.host} sent nothing for ${options.idleMs} ms`)));
      sent.on('error', (error) => reject(new ApiRefusal(`${url.host}: ${error.message}`, 'unknown', { cause: error })));
    });
    if (response.statusCode === 200) return response;
    const body = await text(response).catch(() => '');
    throw refusalOf(response.statusCode ?? 0, body, response.headers['retry-after']);
  }
}

/** Loads a kubeconfig from a file or, by default, from the places that `kubectl` uses. @throws ExecutorUnavailableError */
export function loadKubeConfig(source: KubeConfig | string | undefined): KubeConfig {
  if (source instanceof KubeConfig) return source;
  const config = new KubeConfig();
  try {
    if (source === undefined) config.loadFromDefault();
    else config.loadFromFile(source);
  } catch (cause) {
    throw new ExecutorUnavailableError(
      `The kubeconfig ${source ?? '(from KUBECONFIG, ~/.kube/config or the pod)'} can't be read: ${(cause as Error).message}. Pass a path as kubeConfig, or set KUBECONFIG.`,
      { cause },
    );
  }
  return config;
}

async function ask<T>(call: Promise<T>): Promise<T> {
  const late = (): ApiRefusal => new ApiRefusal(`the API server did not answer within ${answerMs} ms`, 'unknown');
  try {
    return await boundedCall(() => call, { name: 'the API server', ms: answerMs, late });
  } catch (error) {
    if (error instanceof ApiRefusal) throw error;
    const { code, body, headers } = error as { code?: unknown; body?: unknown; headers?: Record<string, string> };
    if (typeof code === 'number') throw refusalOf(code, typeof body === 'string' ? body : JSON.stringify(body), headers?.['retry-after']);
    const { message, cause } = error as Error;
    throw new ApiRefusal(`${message}${cause instanceof Error ? `: ${cause.message}` : ''}`, 'unknown', { cause: error });
  }
}

function refusalOf(status: number, body: string, retryAfter: string | undefined): ApiRefusal {
  let said: { message?: string; reason?: string } = {};
  try {
    said = JSON.parse(body) as typeof said;
  } catch {
    // Not JSON: a proxy's page, or an empty body.
  }
  const seconds = Number(retryAfter);
  // A server that fails may have carried out the request before.
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
