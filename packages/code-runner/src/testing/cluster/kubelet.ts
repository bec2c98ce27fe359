import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import type { ExecutionSpec, Executor } from '../../executor/executor.ts';
import { packFiles, unpackFiles } from '../../kubernetes/archive.ts';
import { defineLanguage } from '../../languages/language.ts';
import { defaultRunLimits } from '../../runs/limits.ts';
import type { Ending } from '../../runs/states.ts';
import { ContainerLog } from './container-log.ts';
import type { ApiObject, ObjectStore } from './object-store.ts';

interface Container {
  readonly name: string;
  readonly image: string;
  readonly command: readonly string[];
  readonly env?: readonly { readonly name: string; readonly value: string }[];
  readonly resources: { readonly limits: Readonly<Record<string, string>> };
}

interface PodSpec {
  readonly containers: readonly Container[];
  readonly initContainers?: readonly Container[];
  readonly volumes: readonly {
    readonly name: string;
    readonly emptyDir?: { readonly sizeLimit?: string };
    readonly configMap?: { readonly name: string };
  }[];
  activeDeadlineSeconds?: number;
  readonly terminationGracePeriodSeconds?: number;
}

interface Running {
  readonly log: { readonly main: ContainerLog; readonly results: ContainerLog };
  /** Reason in the pod's status after its program has ended. */
  because?: 'DeadlineExceeded' | 'Evicted' | 'NodeLost';
  message?: string;
  removed: boolean;
}

export interface KubeletOptions {
  readonly store: ObjectStore;
  readonly sandbox: Executor;
  /** Delay before a pod starts, in ms. */
  readonly startMs: () => number;
  /** The reason for which pods do not start at present. */
  readonly holds: () => 'unschedulable' | undefined;
}

/**
 * Plays the controllers and the only node of a cluster: creates a Job's pod, runs the pod's main container in the local sandbox, and
 * reports its status as a kubelet would. Images are not pulled: the machine's programs are used, and an image named `missing` does not
 * exist. The containers that unpack files and print results are simulated, with the real formats.
 */
export class Kubelet {
  readonly #options: KubeletOptions;
  readonly #running = new Map<string, Running>();
  readonly #work = new Set<Promise<void>>();
  #pods = 0;
  /** Number of started programs by the Job's name, for tests. */
  readonly started: Map<string, number> = new Map();

  constructor(options: KubeletOptions) {
    this.#options = options;
  }

  log(pod: string, container: string): ContainerLog | undefined {
    return this.#running.get(pod)?.log[container as 'main'];
  }

  /** Plays the Job controller for a new Job. */
  jobCreated(job: ApiObject): void {
    const template = (job.spec as { template: { metadata: object; spec: PodSpec } }).template;
    this.#pods += 1;
    const name = `${job.metadata.name}-${this.#pods.toString(36).padStart(5, 'x')}`;
    this.#options.store.create('pods', job.metadata.namespace, {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: {
        ...structuredClone(template.metadata),
        name,
        ownerReferences: [{ apiVersion: 'batch/v1', kind: 'Job', name: job.metadata.name, uid: job.metadata.uid, controller: true }],
      },
      spec: structuredClone(template.spec),
      status: { phase: 'Pending', conditions: [] },
    });
    const work = this.#run(name, job.metadata.name)
      // Rejects if the sandbox is closed while a pod starts.
      .catch(() => undefined)
      .finally(() => this.#work.delete(work));
    this.#work.add(work);
  }

  /** Ends a running pod whose deadline was set to 1 s. */
  deadlineSet(pod: string): void {
    const found = this.#options.store.get('pods', pod);
    const spec = found?.spec as PodSpec | undefined;
    if (!spec || (spec.activeDeadlineSeconds ?? 3_600) > 1) return;
    this.#end(pod, 'DeadlineExceeded', 'Pod was active on the node longer than the specified deadline');
  }

  evict(pod: string, message = 'The node was low on resource: memory.'): void {
    this.#end(pod, 'Evicted', message, 0);
  }

  /** The pod's node is lost; its status says only that. */
  loseNode(pod: string): void {
    this.#end(pod, 'NodeLost', 'Node which was running pod is unresponsive', 0);
  }

  async remove(pod: string): Promise<void> {
    const running = this.#running.get(pod);
    if (running) running.removed = true;
    await this.#options.sandbox.remove(refOf(pod));
    running?.log.main.end();
    running?.log.results.end();
    this.#options.store.remove('pods', pod);
  }

  async close(): Promise<void> {
    for (const running of this.#running.values()) running.removed = true;
    await this.#options.sandbox.close();
    await Promise.all(this.#work);
  }

  #end(pod: string, because: NonNullable<Running['because']>, message: string, graceMs?: number): void {
    const running = this.#running.get(pod);
    if (!running) return;
    running.because ??= because;
    running.message ??= message;
    const spec = this.#options.store.get('pods', pod)?.spec as PodSpec | undefined;
    void this.#options.sandbox.stop(refOf(pod), { graceMs: graceMs ?? (spec?.terminationGracePeriodSeconds ?? 30) * 1_000 });
  }

  async #run(pod: string, job: string): Promise<void> {
    const { store, sandbox, startMs } = this.#options;
    const running: Running = { log: { main: new ContainerLog(), results: new ContainerLog() }, removed: false };
    this.#running.set(pod, running);
    const gone = (): boolean => running.removed || store.get('pods', pod) === undefined;
    await pause(startMs());
    while (this.#options.holds() !== undefined && !gone()) {
      this.#status(pod, {
        phase: 'Pending',
        conditions: [
          { type: 'PodScheduled', status: 'False', reason: 'Unschedulable', message: '0/1 nodes are available: 1 Insufficient memory.' },
        ],
      });
      await pause(20);
    }
    if (gone()) return;
    const spec = store.get('pods', pod)?.spec as unknown as PodSpec;
    const [main] = spec.containers;
    if (!main) return;
    if (main.image.includes('missing')) {
      const waiting = { reason: 'ImagePullBackOff', message: `Back-off pulling image "${main.image}"` };
      this.#status(pod, { phase: 'Pending', containerStatuses: [{ name: 'main', state: { waiting } }] });
      return;
    }
    const execution = await this.#specOf(pod, spec, main);
    if (gone()) return;
    this.started.set(job, (this.started.get(job) ?? 0) + 1);
    await sandbox.start(execution, { signal: new AbortController().signal });
    const startedAt = new Date().toISOString();
    this.#status(pod, {
      phase: 'Running',
      startTime: startedAt,
      containerStatuses: [
        { name: 'main', state: { running: { startedAt } } },
        { name: 'results', state: { running: { startedAt } } },
      ],
    });
    const logging = this.#copyLog(pod, running);
    let ending: Ending | undefined;
    for await (const seen of sandbox.observe(execution, { signal: new AbortController().signal }))
      if (seen?.status.is === 'ended') ending = seen.status.ending;
    await logging;
    if (running.removed) return;
    const { message, results } = await this.#results(pod);
    running.log.main.end();
    const code = ending?.exitCode ?? 137;
    const oom = ending?.reason === 'OOM';
    this.#status(pod, {
      phase: 'Running',
      containerStatuses: [
        {
          name: 'main',
          state: {
            terminated: {
              exitCode: oom ? 137 : code,
              reason: oom ? 'OOMKilled' : code === 0 ? 'Completed' : 'Error',
              ...(message ? { message } : {}),
              startedAt,
              finishedAt: new Date().toISOString(),
            },
          },
        },
        { name: 'results', state: { running: { startedAt } } },
      ],
      ...(running.because === undefined ? {} : { phase: 'Failed', reason: running.because, message: running.message }),
    });
    running.log.results.write(Buffer.from(`${results.toString('base64').replaceAll(/(.{76})/g, '$1\n')}\nend\n`));
    running.log.results.end();
    await sandbox.remove(execution);
    const failed = code !== 0 || running.because !== undefined;
    store.update('pods', pod, ({ status }) => {
      if (status) status.phase = failed ? 'Failed' : 'Succeeded';
    });
    const at = new Date().toISOString();
    store.update('jobs', job, (object) => {
      object.status = failed
        ? { failed: 1, conditions: [{ type: 'Failed', status: 'True', reason: 'BackoffLimitExceeded', lastTransitionTime: at }] }
        : { succeeded: 1, completionTime: at, conditions: [{ type: 'Complete', status: 'True', lastTransitionTime: at }] };
    });
  }

  async #copyLog(pod: string, running: Running): Promise<void> {
    for await (const { bytes } of this.#options.sandbox.logs(refOf(pod), { after: null, signal: new AbortController().signal }))
      running.log.main.write(bytes);
  }

  /** Returns the termination message, and the other files in `/out`, packed. */
  async #results(pod: string): Promise<{ readonly message: string; readonly results: Buffer }> {
    let message = '';
    const files: { path: string; open: () => Promise<Readable> }[] = [];
    for await (const { path, content } of this.#options.sandbox.output(refOf(pod), {
      limit: Number.MAX_SAFE_INTEGER,
      truncated: () => undefined,
    })) {
      const bytes = await buffer(content);
      if (path === '.termination-log') message = bytes.toString();
      else files.push({ path, open: async () => Readable.from([bytes], { objectMode: false }) });
    }
    return { message, results: await packFiles(files) };
  }

  #status(pod: string, status: Record<string, unknown>): void {
    this.#options.store.update('pods', pod, (object) => {
      object.status = { ...object.status, ...status };
    });
  }

  async #specOf(pod: string, spec: PodSpec, main: Container): Promise<ExecutionSpec> {
    const { store } = this.#options;
    const env: Record<string, string> = {};
    for (const { name, value } of main.env ?? []) env[name] = expanded(value, env);
    const [init] = spec.initContainers ?? [];
    const url = init?.env?.find(({ name }) => name === 'CODE_URL')?.value;
    let map: ApiObject | undefined;
    const from = spec.volumes.find(({ configMap }) => configMap)?.configMap?.name;
    // As a kubelet, waits for a volume that does not exist yet.
    while (from !== undefined && !map && store.get('pods', pod)) {
      map = store.get('configmaps', from);
      if (!map) await pause(10);
    }
    const archive =
      url !== undefined
        ? Buffer.from(await (await fetch(url)).arrayBuffer())
        : Buffer.from((map?.binaryData as Record<string, string> | undefined)?.['code.tar.gz'] ?? '', 'base64');
    const { files } = await unpackFiles(archive, Number.MAX_SAFE_INTEGER);
    const data = (init?.env ?? []).filter(({ name }) => name.startsWith('DATA_URL_'));
    const paths = [...(init?.command.at(-1) ?? '').matchAll(/-o '\/data\/([^']*)'/g)].map((match) => match[1] ?? '');
    const disk = Number(spec.volumes.find(({ name }) => name === 'out')?.emptyDir?.sizeLimit ?? 0);
    return {
      ...refOf(pod),
      taskId: '',
      actor: '',
      language: defineLanguage({ name: 'container', template: { x: '' }, main: 'x', image: main.image, requires: [], environment: env }),
      // A kubelet mounts these; the sandbox has other places for them.
      command: main.command.map((part) =>
        expanded(part, env).replaceAll('/signal/', '/tmp/.signal-').replaceAll('/dev/termination-log', '/out/.termination-log'),
      ),
      limits: {
        ...defaultRunLimits,
        memoryBytes: Number(main.resources.limits.memory),
        cpus: Number.parseInt(main.resources.limits.cpu ?? '1000', 10) / 1_000,
        timeoutMs: (spec.activeDeadlineSeconds ?? 3_600) * 1_000,
        diskBytes: disk || defaultRunLimits.diskBytes,
        outputBytes: Number.MAX_SAFE_INTEGER,
      },
      files: files.map(({ path, content }) => ({
        path,
        size: content.length,
        open: async () => Readable.from([content], { objectMode: false }),
      })),
      dataSets: data.map(({ value }, i) => ({
        path: paths[i] ?? `data-${i}`,
        object: value,
        open: async () => Readable.from([Buffer.from(await (await fetch(value)).arrayBuffer())], { objectMode: false }),
      })),
    };
  }
}

/** Replaces variables in an argument or a value as Kubernetes does. */
function expanded(text: string, env: Readonly<Record<string, string>>): string {
  return text.replaceAll(/\$\$|\$\(([\w.-]+)\)/g, (whole, name: string | undefined) => (name === undefined ? '$' : (env[name] ?? whole)));
}

function refOf(pod: string): { readonly runId: string; readonly attempt: number; readonly jobUid: string } {
  return { runId: pod, attempt: 1, jobUid: pod };
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
