import { createInterface } from 'node:readline';
import { type Logger, wait } from '@holdfast/core';
import { ApiRefusal, type KubernetesApi } from './kubernetes-api.ts';

/** The fields that every object has. */
interface Named {
  readonly metadata?: { readonly name?: string; readonly resourceVersion?: string };
}

export interface WatchedOptions {
  readonly api: KubernetesApi;
  /** For example `/apis/batch/v1/namespaces/runs/jobs`. */
  readonly path: string;
  readonly selector: string;
  /** A watch that is silent for this long, in ms, is considered broken. */
  readonly idleMs: number;
  readonly changed: (name: string) => void;
  readonly logger: Logger;
}

/**
 * A copy of the cluster's objects of one kind, kept by a list and a watch. After any irregularity (an expired version, an event that is
 * not valid, a silent stream) the objects are listed again, which shows missed changes.
 *
 * It is our own, since the client's informer stops for good when a connection is cut at the wrong moment, and does not detect silence.
 */
export class Watched<T extends Named> {
  readonly #options: WatchedOptions;
  #objects = new Map<string, T>();
  #stopping: AbortController | undefined;
  #running: Promise<void> | undefined;
  #synced = false;
  #waiting: (() => void)[] = [];

  constructor(options: WatchedOptions) {
    this.#options = options;
  }

  /** True if the objects were listed. */
  get synced(): boolean {
    return this.#synced;
  }

  get(name: string): T | undefined {
    return this.#objects.get(name);
  }

  values(): IterableIterator<T> {
    return this.#objects.values();
  }

  /** Starts watching, once. Resolves after the first list. */
  async ready(signal: AbortSignal): Promise<void> {
    this.#stopping ??= new AbortController();
    this.#running ??= this.#run(this.#stopping.signal);
    if (this.#synced) return;
    await new Promise<void>((resolve, reject) => {
      this.#waiting.push(resolve);
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
    });
  }

  async stop(): Promise<void> {
    this.#stopping?.abort(new Error('stopped'));
    await this.#running;
    this.#running = undefined;
    this.#stopping = undefined;
    this.#synced = false;
  }

  async #run(signal: AbortSignal): Promise<void> {
    let version: string | undefined;
    for (let pauseMs = 50; !signal.aborted; ) {
      try {
        version ??= await this.#list(signal);
        version = await this.#watch(version, signal);
        pauseMs = 50;
      } catch (err) {
        if (signal.aborted) return;
        const expired = err instanceof ApiRefusal && err.status === 410;
        this.#options.logger.debug({ err, path: this.#options.path }, 'a watch ended; listing again');
        version = undefined;
        if (!expired) {
          await wait((err instanceof ApiRefusal ? err.retryAfterMs : undefined) ?? pauseMs, signal).catch(() => undefined);
          pauseMs = Math.min(pauseMs * 2, 10_000);
        }
      }
    }
  }

  async #list(signal: AbortSignal): Promise<string> {
    const { api, path, selector, changed } = this.#options;
    const all = new Map<string, T>();
    let version = '';
    for (let next: string | undefined = ''; next !== undefined; ) {
      const page: { items?: T[]; metadata?: { resourceVersion?: string; continue?: string } } = await api.list(
        path,
        { labelSelector: selector, limit: '500', ...(next ? { continue: next } : {}) },
        signal,
      );
      for (const item of page.items ?? []) all.set(item.metadata?.name ?? '', item);
      version = page.metadata?.resourceVersion ?? '';
      next = page.metadata?.continue || undefined;
    }
    const before = this.#objects;
    this.#objects = all;
    this.#synced = true;
    for (const resolve of this.#waiting.splice(0)) resolve();
    for (const name of new Set([...before.keys(), ...all.keys()]))
      if (before.get(name)?.metadata?.resourceVersion !== all.get(name)?.metadata?.resourceVersion) changed(name);
    return version;
  }

  /** Follows changes after a version. Returns the last version when the server ends the stream regularly. */
  async #watch(from: string, signal: AbortSignal): Promise<string> {
    const { api, path, selector, idleMs, changed } = this.#options;
    const query = {
      watch: 'true',
      allowWatchBookmarks: 'true',
      labelSelector: selector,
      resourceVersion: from,
      timeoutSeconds: '300',
    };
    const stream = await api.stream(path, query, { signal, idleMs });
    let version = from;
    // An error of the stream ends the loop below.
    const failure = new Promise<never>((_, reject) => {
      stream.once('error', reject);
      stream.once('aborted', () => reject(new ApiRefusal('the watch was cut off', 'unknown')));
    });
    failure.catch(() => undefined);
    const lines = createInterface({ input: stream, crlfDelay: Number.POSITIVE_INFINITY })[Symbol.asyncIterator]();
    for (;;) {
      const { value: line, done } = await Promise.race([lines.next(), failure]);
      if (done) return version;
      if (line === '') continue;
      const { type, object } = JSON.parse(line) as { type?: string; object?: T & { code?: number; message?: string } };
      const name = object?.metadata?.name;
      const next = object?.metadata?.resourceVersion;
      if (type === 'ERROR') throw new ApiRefusal(object?.message ?? 'the watch failed', object?.code ?? 'unknown');
      if (next === undefined) throw new ApiRefusal(`an event ${type} without a version`, 'unknown');
      version = next;
      if (type === 'BOOKMARK') continue;
      if (name === undefined || object === undefined) throw new ApiRefusal(`an event ${type} without a name`, 'unknown');
      if (type === 'ADDED' || type === 'MODIFIED') this.#objects.set(name, object);
      else if (type === 'DELETED') this.#objects.delete(name);
      else throw new ApiRefusal(`an event of the unknown type ${type}`, 'unknown');
      changed(name);
    }
  }
}
