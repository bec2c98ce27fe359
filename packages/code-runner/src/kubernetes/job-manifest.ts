import type { V1Container, V1EnvVar, V1Job, V1PodSpec, V1SecurityContext, V1Volume, V1VolumeMount } from '@kubernetes/client-node';
import type { ExecutionSpec } from '../executor/executor.ts';
import { labelsOf, objectName } from './labels.ts';

/** Settings for the Jobs of all runs. */
export interface JobSettings {
  readonly namespace: string;
  readonly instance: string;
  readonly runtimeClassName?: string | undefined;
  readonly serviceAccountName?: string | undefined;
  readonly nodeSelector?: Readonly<Record<string, string>> | undefined;
  readonly tolerations?: V1PodSpec['tolerations'] | undefined;
  readonly priorityClassName?: string | undefined;
  readonly imagePullSecrets?: readonly string[] | undefined;
  readonly userId: number;
  /** How long the cluster keeps a Job after its end if no worker deletes it, in seconds. */
  readonly ttlSeconds: number;
  /** The longest time that a pod may wait for its start, in ms; it is added to the deadlines. */
  readonly pendingMs: number;
  /** The highest number of bytes of packed results, which are read through a container's log. */
  readonly resultBytes: number;
}

/** The source of the files: the ConfigMap of the same name, or an address. */
export type CodeSource = { readonly from: 'config-map' } | { readonly from: 'url'; readonly url: string };

/** The restricted Pod Security profile, and in addition a read-only root. */
const confined: V1SecurityContext = {
  allowPrivilegeEscalation: false,
  privileged: false,
  readOnlyRootFilesystem: true,
  runAsNonRoot: true,
  capabilities: { drop: ['ALL'] },
  seccompProfile: { type: 'RuntimeDefault' },
};

/**
 * Builds the Job of one attempt. It has three deadlines: the script in the container ends the program in time, the pod's deadline acts
 * if the script fails, and the Job's deadline acts if no pod ever starts.
 */
export function jobManifest(spec: ExecutionSpec, source: CodeSource, dataUrls: readonly string[], settings: JobSettings): V1Job {
  const { limits, language } = spec;
  const labels = labelsOf(spec, settings.instance);
  const seconds = Math.ceil(limits.timeoutMs / 1_000);
  const pendingSeconds = Math.ceil(settings.pendingMs / 1_000);
  const disk = String(limits.diskBytes);
  const memory = limits.memoryBytes + (language.memoryOverheadBytes ?? 0);
  const code = spec.files.reduce((sum, { size }) => sum + size, 0);
  const volumes: V1Volume[] = [
    { name: 'code', emptyDir: { sizeLimit: String(Math.max(2 ** 20, code * 2)) } },
    { name: 'data', emptyDir: { sizeLimit: disk } },
    { name: 'scratch', emptyDir: { sizeLimit: disk } },
    { name: 'tmp', emptyDir: { sizeLimit: disk } },
    { name: 'out', emptyDir: { sizeLimit: disk } },
    { name: 'signal', emptyDir: { sizeLimit: '1Mi' } },
    ...(source.from === 'config-map' ? [{ name: 'source', configMap: { name: objectName(spec), defaultMode: 0o444 } }] : []),
  ];
  const main: V1Container = {
    name: 'main',
    image: language.image,
    command: ['/bin/sh', '-c', mainScript(seconds, language.compile, spec.stdinFile), 'run', ...spec.command.map(literal)],
    workingDir: '/code',
    env: environment({
      HOME: '/scratch',
      TMPDIR: '/tmp',
      LANG: 'C.UTF-8',
      RUN_ID: spec.runId,
      OUT_DIR: '/out',
      DATA_DIR: '/data',
      ...language.environment,
      ...spec.environment,
    }),
    resources: {
      requests: { cpu: millis(limits.cpus / 2), memory: String(memory), 'ephemeral-storage': disk },
      limits: { cpu: millis(limits.cpus), memory: String(memory), 'ephemeral-storage': String(limits.diskBytes * 3 + code) },
    },
    volumeMounts: [mount('code', true), mount('data', true), mount('scratch'), mount('tmp'), mount('out'), mount('signal')],
    securityContext: confined,
    terminationMessagePath: '/dev/termination-log',
    terminationMessagePolicy: 'File',
  };
  const small = { cpu: '100m', memory: '64Mi', 'ephemeral-storage': disk };
  const results: V1Container = {
    name: 'results',
    image: language.image,
    command: ['/bin/sh', '-c', resultsScript(settings.resultBytes)],
    workingDir: '/',
    resources: { requests: small, limits: small },
    volumeMounts: [mount('out', true), mount('signal', true)],
    securityContext: confined,
  };
  const unpack: V1Container = {
    name: 'code',
    image: language.image,
    command: ['/bin/sh', '-c', unpackScript(source, spec.dataSets)],
    workingDir: '/',
    env: environment({
      ...(source.from === 'url' ? { CODE_URL: source.url } : {}),
      ...Object.fromEntries(dataUrls.map((url, i) => [`DATA_URL_${i}`, url])),
    }),
    resources: { requests: small, limits: small },
    volumeMounts: [mount('code'), mount('data'), mount('tmp'), ...(source.from === 'config-map' ? [mount('source', true)] : [])],
    securityContext: confined,
  };
  return {
    apiVersion: 'batch/v1',
    kind: 'Job',
    metadata: { name: objectName(spec), namespace: settings.namespace, labels, annotations: { 'holdfast.dev/task': spec.taskId } },
    spec: {
      backoffLimit: 0,
      completions: 1,
      parallelism: 1,
      activeDeadlineSeconds: seconds + pendingSeconds + 600,
      ttlSecondsAfterFinished: settings.ttlSeconds,
      template: {
        metadata: { labels },
        spec: {
          restartPolicy: 'Never',
          activeDeadlineSeconds: seconds + pendingSeconds + 300,
          terminationGracePeriodSeconds: 10,
          automountServiceAccountToken: false,
          enableServiceLinks: false,
          ...(settings.serviceAccountName === undefined ? {} : { serviceAccountName: settings.serviceAccountName }),
          ...(settings.runtimeClassName === undefined ? {} : { runtimeClassName: settings.runtimeClassName }),
          ...(settings.priorityClassName === undefined ? {} : { priorityClassName: settings.priorityClassName }),
          ...(settings.nodeSelector === undefined ? {} : { nodeSelector: { ...settings.nodeSelector } }),
          ...(settings.tolerations === undefined ? {} : { tolerations: settings.tolerations }),
          ...(settings.imagePullSecrets === undefined ? {} : { imagePullSecrets: settings.imagePullSecrets.map((name) => ({ name })) }),
          securityContext: {
            runAsNonRoot: true,
            runAsUser: settings.userId,
            runAsGroup: settings.userId,
            fsGroup: settings.userId,
            seccompProfile: { type: 'RuntimeDefault' },
          },
          initContainers: [unpack],
          containers: [main, results],
          volumes,
        },
      },
    },
  };
}

/** Parses the termination message of the `main` container: `stage code [timeout]`. */
export function readTermination(message: string | undefined): {
  readonly stage?: 'compile' | 'run';
  readonly code?: number;
  readonly timeout: boolean;
} {
  const found = /^(compile|run) (\d+)( timeout)?$/m.exec(message ?? '');
  if (!found) return { timeout: false };
  return { stage: found[1] as 'compile' | 'run', code: Number(found[2]), timeout: found[3] !== undefined };
}

/** Script that runs the program, ends it after its time limit, writes the termination message, and signals the `results` container. */
function mainScript(seconds: number, compile: string | undefined, stdinFile: string | undefined): string {
  return [
    'ulimit -c 0',
    // Messages of this shell must not appear in the program's output.
    'exec 8>&2 2>/dev/null',
    'stage=run; code=0; pid=',
    // Signals arrive at the first process of a container; it passes them on.
    'trap \'[ -n "$pid" ] && kill -TERM $pid 2>/dev/null\' TERM INT',
    'watch() { ( sleep $1; echo timeout > /signal/why; kill -TERM $2; sleep 2; kill -KILL $2 ) >/dev/null 2>&1 & watcher=$!; }',
    // A trap interrupts the wait; the program still has its grace period.
    'await() { wait $1; code=$?; while kill -0 $1 2>/dev/null; do wait $1; code=$?; done; kill $watcher 2>/dev/null; }',
    ...(compile === undefined
      ? []
      : [`stage=compile; ( exec 2>&8 8>&-; ${compile} ) & pid=$!; watch ${seconds} $pid; await $pid; [ $code -eq 0 ] && stage=run`]),
    `if [ $code -eq 0 ]; then "$@" ${stdinFile === undefined ? '' : `</code/${stdinFile} `}2>&8 8>&- & pid=$!; watch ${seconds} $pid; await $pid; fi`,
    'why=; [ -e /signal/why ] && why=" timeout"',
    'printf "%s %s%s\\n" "$stage" "$code" "$why" > /dev/termination-log',
    'echo done > /signal/done',
    'exit $code',
  ].join('\n');
}

/** Script that prints the packed files of `/out` after the program has ended. The pod needs no key of the file store, and no network. */
function resultsScript(bytes: number): string {
  return [
    'trap "exit 0" TERM',
    'while [ ! -e /signal/done ]; do sleep 0.2 || sleep 1; done',
    `cd /out && tar -cf - . | gzip | head -c ${bytes + 1} | base64`,
    'echo end',
  ].join('\n');
}

function unpackScript(source: CodeSource, dataSets: ExecutionSpec['dataSets']): string {
  const get = (variable: string, to: string): string =>
    `{ curl -fsSL --retry 5 -o ${to} "$${variable}" || wget -q -O ${to} "$${variable}" || python3 -c 'import os,sys,urllib.request; urllib.request.urlretrieve(os.environ[sys.argv[1]], sys.argv[2])' ${variable} ${to}; }`;
  const lines = ['set -e'];
  if (source.from === 'url') lines.push(get('CODE_URL', '/tmp/code.tar.gz'), 'tar -xzf /tmp/code.tar.gz -C /code', 'rm /tmp/code.tar.gz');
  else lines.push('tar -xzf /source/code.tar.gz -C /code');
  for (const [i, { path }] of dataSets.entries()) {
    const target = quote(`/data/${path}`);
    lines.push(`mkdir -p "$(dirname ${target})"`, get(`DATA_URL_${i}`, target));
  }
  return lines.join('\n');
}

function quote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

function mount(name: string, readOnly?: boolean): V1VolumeMount {
  return { name, mountPath: `/${name}`, ...(readOnly ? { readOnly: true } : {}) };
}

function environment(values: Readonly<Record<string, string>>): V1EnvVar[] {
  return Object.entries(values).map(([name, value]) => ({ name, value: literal(value) }));
}

/** Kubernetes replaces `$(NAME)` in arguments and values by the variable, and `$$` by `$`. */
function literal(text: string): string {
  return text.replaceAll('$', '$$$$');
}

function millis(cpus: number): string {
  return `${Math.max(10, Math.round(cpus * 1_000))}m`;
}
