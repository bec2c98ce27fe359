import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { text } from 'node:stream/consumers';
import type { Executor } from '../../executor/executor.ts';
import { Kubelet } from './kubelet.ts';
import { answer, kinds, matches } from './object-api.ts';
import { ObjectStore, type StoreEvent } from './object-store.ts';

/** A fault for a request, instead of or after handling it. */
export type Fault =
  /** The request is refused with this status. */
  | { readonly status: number; readonly reason?: string; readonly message?: string; readonly retryAfterSeconds?: number }
  /** The connection is reset before or after the request was handled. */
  | { readonly reset: 'before' | 'after' }
  /** The request is handled, but never answered. */
  | { readonly stall: true };

/** Options of {@link kubernetesDouble}. */
export interface KubernetesDoubleOptions {
  /** Runs the programs of pods: `localSandbox()`. Closing the double closes it. */
  readonly sandbox: Executor;
  /** Key and certificate for `127.0.0.1`, as PEM. */
  readonly key: string;
  readonly cert: string;
  readonly namespace?: string;
  /** Known bearer tokens. `true` grants access, `false` is answered with 403. Default `{ token: true }`. */
  readonly tokens?: Readonly<Record<string, boolean>>;
}

/** The part of a cluster that Jobs need, over HTTPS, for tests. It can misbehave on request as real API servers do. */
export interface KubernetesDouble extends AsyncDisposable {
  readonly url: string;
  readonly namespace: string;
  readonly store: ObjectStore;
  readonly kubelet: Kubelet;
  /** All requests so far, with method, path and body. `at` is the time on the monotonic clock, in ms. */
  readonly requests: readonly { readonly method: string; readonly path: string; readonly body: string; readonly at: number }[];
  /** Applies a fault to the next `times` requests of a kind such as `POST jobs`, `GET pods/log`, `WATCH jobs`. Default once. */
  fail(what: string, fault: Fault, times?: number): void;
  /** Number of Jobs that may exist at a time. Default unlimited. */
  quota: number;
  /** While true, pods stay pending as unschedulable. */
  unschedulable: boolean;
  /** Time that a pod takes to start, in ms. */
  startMs: number;
  /** Silences the open watches without closing them. */
  silenceWatches(): void;
  /** Resets all open streams. Returns their number. */
  resetStreams(): number;
  /** Ends the open watches with an error 410 in the stream. */
  expireWatches(): void;
  /** Returns a kubeconfig, as JSON, with a bearer token. */
  kubeConfig(token?: string): string;
  /** Ends the programs and the server. */
  close(): Promise<void>;
}

interface Stream {
  readonly response: ServerResponse;
  readonly kind: 'watch' | 'log';
  silent: boolean;
}

/** Starts an API server over HTTPS, with a kubelet that runs real programs. */
export async function kubernetesDouble(options: KubernetesDoubleOptions): Promise<KubernetesDouble> {
  const double = new Double(options);
  await double.listen();
  return double;
}

class Double implements KubernetesDouble {
  readonly namespace: string;
  readonly store = new ObjectStore();
  readonly kubelet: Kubelet;
  readonly requests: { method: string; path: string; body: string; at: number }[] = [];
  quota: number = Number.POSITIVE_INFINITY;
  unschedulable = false;
  startMs = 5;
  readonly #options: KubernetesDoubleOptions;
  readonly #server: Server;
  readonly #faults = new Map<string, { fault: Fault; times: number }[]>();
  readonly #streams = new Set<Stream>();
  readonly #sockets = new Set<Duplex>();
  #port = 0;

  constructor(options: KubernetesDoubleOptions) {
    this.#options = options;
    this.namespace = options.namespace ?? 'runs';
    this.kubelet = new Kubelet({
      store: this.store,
      sandbox: options.sandbox,
      startMs: () => this.startMs,
      holds: () => (this.unschedulable ? 'unschedulable' : undefined),
    });
    this.#server = createServer({ key: options.key, cert: options.cert }, (request, response) => {
      this.#handle(request, response).catch((error) => {
        if (!response.headersSent) this.#status(response, 500, 'InternalError', String(error));
        else response.destroy();
      });
    });
    this.#server.on('connection', (socket) => {
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
    });
  }

  get url(): string {
    return `https://127.0.0.1:${this.#port}`;
  }

  async listen(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    this.#port = (this.#server.address() as AddressInfo).port;
  }

  fail(what: string, fault: Fault, times = 1): void {
    this.#faults.set(what, [...(this.#faults.get(what) ?? []), { fault, times }]);
  }

  silenceWatches(): void {
    for (const stream of this.#streams) if (stream.kind === 'watch') stream.silent = true;
  }

  resetStreams(): number {
    const { size } = this.#streams;
    for (const { response } of this.#streams) response.socket?.destroy();
    return size;
  }

  expireWatches(): void {
    const object = {
      kind: 'Status',
      apiVersion: 'v1',
      status: 'Failure',
      reason: 'Expired',
      code: 410,
      message: 'too old resource version',
    };
    for (const { response, kind } of this.#streams) if (kind === 'watch') response.end(`${JSON.stringify({ type: 'ERROR', object })}\n`);
  }

  kubeConfig(token = 'token'): string {
    const ca = Buffer.from(this.#options.cert).toString('base64');
    return JSON.stringify({
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [{ name: 'double', cluster: { server: this.url, 'certificate-authority-data': ca } }],
      users: [{ name: 'runner', user: { token } }],
      contexts: [{ name: 'double', context: { cluster: 'double', user: 'runner', namespace: this.namespace } }],
      'current-context': 'double',
    });
  }

  async close(): Promise<void> {
    await this.kubelet.close();
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', this.url);
    const method = request.method ?? 'GET';
    const body = await text(request);
    this.requests.push({ method, path: `${url.pathname}${url.search}`, body, at: performance.now() });
    const found = /^\/(?:apis\/batch\/v1|api\/v1)\/namespaces\/([^/]+)\/(jobs|pods|configmaps)(?:\/([^/]+)(\/log)?)?$/.exec(url.pathname);
    const token = /^Bearer (.*)$/.exec(request.headers.authorization ?? '')?.[1] ?? '';
    const may = (this.#options.tokens ?? { token: true })[token];
    if (may === undefined) return this.#status(response, 401, 'Unauthorized', 'Unauthorized');
    if (!found || found[1] !== this.namespace)
      return this.#status(response, 404, 'NotFound', 'the server could not find the requested resource');
    const [, , plural = '', name, log] = found;
    if (!may)
      return this.#status(
        response,
        403,
        'Forbidden',
        `${plural} is forbidden: User "runner" cannot ${method.toLowerCase()} resource "${plural}"`,
      );
    const watch = url.searchParams.get('watch') === 'true';
    const fault = this.#take(`${watch ? 'WATCH' : method} ${plural}${log ?? ''}`);
    if (fault && 'status' in fault) {
      if (fault.retryAfterSeconds !== undefined) response.setHeader('Retry-After', String(fault.retryAfterSeconds));
      return this.#status(response, fault.status, fault.reason ?? 'Injected', fault.message ?? 'injected by a test');
    }
    if (fault && 'reset' in fault && fault.reset === 'before') {
      response.socket?.destroy();
      return;
    }
    const [status, reply] = watch || log ? [0, undefined] : await answer(this, { method, plural, name, url, body });
    if (fault && 'reset' in fault) response.socket?.destroy();
    else if (fault && 'stall' in fault) return;
    else if (log) await this.#log(url, name ?? '', response);
    else if (watch) this.#watch(url, plural, response);
    else if (status >= 400)
      this.#status(response, status, String((reply as { reason?: string }).reason), String((reply as { message?: string }).message));
    else this.#json(response, status, reply);
  }

  #watch(url: URL, plural: string, response: ServerResponse): void {
    const from = Number(url.searchParams.get('resourceVersion') ?? this.store.version);
    const past = this.store.since(plural, from);
    if (!past) {
      this.#status(response, 410, 'Expired', 'too old resource version');
      return;
    }
    response.writeHead(200, { 'content-type': 'application/json' });
    const stream: Stream = { response, kind: 'watch', silent: false };
    const send = ({ type, object }: Pick<StoreEvent, 'type' | 'object'>): void => {
      // The response may have ended before its close event removes this listener.
      if (!stream.silent && !response.writableEnded) response.write(`${JSON.stringify({ type, object })}\n`);
    };
    for (const event of past) if (matches(event.object, url)) send(event);
    response.flushHeaders();
    const stop = this.store.listen((event) => {
      if (event.kind === plural && matches(event.object, url)) send(event);
    });
    // Real servers send bookmarks once a minute; tests need them sooner.
    const bookmarks = setInterval(() => {
      const type = kinds[plural] as { kind: string; apiVersion: string };
      send({
        type: 'BOOKMARK',
        object: { ...type, metadata: { resourceVersion: String(this.store.version), creationTimestamp: null } } as never,
      });
    }, 200);
    this.#streams.add(stream);
    response.on('close', () => {
      stop();
      clearInterval(bookmarks);
      this.#streams.delete(stream);
    });
  }

  async #log(url: URL, pod: string, response: ServerResponse): Promise<void> {
    const container = url.searchParams.get('container') ?? '';
    const log = this.kubelet.log(pod, container);
    if (!log || !this.store.get('pods', pod)) return this.#status(response, 404, 'NotFound', `pods "${pod}" not found`);
    const options = { timestamps: url.searchParams.get('timestamps') === 'true', since: url.searchParams.get('sinceTime') ?? undefined };
    const follow = url.searchParams.get('follow') === 'true';
    response.writeHead(200, { 'content-type': 'text/plain' });
    response.flushHeaders();
    const stream: Stream = { response, kind: 'log', silent: false };
    this.#streams.add(stream);
    let closed = false;
    response.on('close', () => {
      closed = true;
      this.#streams.delete(stream);
    });
    for (let at = 0; !closed; ) {
      const change = log.change();
      const { text: lines, next } = log.read(at, options);
      at = next;
      if (lines.length > 0) response.write(lines);
      if (!follow || log.ended) break;
      await Promise.race([change, new Promise((resolve) => setTimeout(resolve, 50).unref())]);
    }
    response.end();
  }

  #take(what: string): Fault | undefined {
    const [first, ...rest] = this.#faults.get(what) ?? [];
    if (!first) return undefined;
    first.times -= 1;
    if (first.times < 1) this.#faults.set(what, rest);
    return first.fault;
  }

  #json(response: ServerResponse, status: number, body: unknown): void {
    response.writeHead(status, { 'content-type': 'application/json' });
    response.end(JSON.stringify(body));
  }

  #status(response: ServerResponse, code: number, reason: string, message: string): void {
    this.#json(response, code, { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', message, reason, code });
  }
}
