import { existsSync } from 'node:fs';
import { Readable } from 'node:stream';
import { silentLogger } from '@holdfast/core';
import { until } from '@holdfast/core/testing';
import { KubeConfig } from '@kubernetes/client-node';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type CodeRunner, defaultRunLimits, type ExecutionSpec, type Executor, python, r, scala } from '../src/index.ts';
import { kubernetes } from '../src/kubernetes/index.ts';
import { jobManifest } from '../src/kubernetes/job-manifest.ts';
import { labelsOf } from '../src/kubernetes/labels.ts';
import { s3Files } from '../src/s3/index.ts';
import { localSandbox } from '../src/sandbox/index.ts';
import { type KubernetesDouble, kubernetesDouble, restrictedViolations } from '../src/testing/index.ts';
import { bucket, s3Client } from './s3.ts';
import { alice, eventsOf, logOf, onEveryDatabase, runToEnd, submit, textOf } from './suite.ts';
import { tls } from './tls.ts';

const sandboxed = existsSync('/usr/bin/bwrap');
const code = Buffer.from('print(1)\n');
const spec: ExecutionSpec = {
  runId: '7',
  attempt: 1,
  jobUid: '0123456789abcdef0123456789abcdef',
  taskId: '3',
  actor: 'alice',
  language: python(),
  command: ['python3', 'run.py'],
  limits: defaultRunLimits,
  files: [{ path: 'run.py', size: code.length, open: async () => Readable.from([code]) }],
  dataSets: [],
};

describe.runIf(sandboxed)('Kubernetes', () => {
  let double: KubernetesDouble;
  const executors: Executor[] = [];
  beforeEach(async () => {
    double = await kubernetesDouble({
      sandbox: localSandbox({ killAfterMs: 300 }),
      tokens: { token: true, stranger: false },
      ...(await tls()),
    });
  });
  afterEach(async () => {
    for (const executor of executors.splice(0)) await executor.close();
    await double.close();
  });
  const connect = (more: Partial<Parameters<typeof kubernetes>[0]> = {}, token = 'token'): Executor => {
    const kubeConfig = new KubeConfig();
    kubeConfig.loadFromString(double.kubeConfig(token));
    const executor = kubernetes({ namespace: double.namespace, kubeConfig, idle: 1_000, logger: silentLogger, ...more });
    executors.push(executor);
    return executor;
  };
  const signal = (): AbortSignal => AbortSignal.timeout(20_000);

  it('the double sends nothing more on a watch that it has expired', async () => {
    const executor = connect();
    const changes = executor.observe(spec, { signal: signal() })[Symbol.asyncIterator]();
    await changes.next();
    double.expireWatches();
    double.store.create('jobs', 'runs', {
      apiVersion: 'batch/v1',
      kind: 'Job',
      metadata: { name: 'late', labels: labelsOf(spec, 'default') },
    });
    await until(() => double.requests.filter(({ path }) => path.includes('watch=true')).length >= 4);
  });

  it('what goes over the wire is the manifest that was built, field by field, and fits the restricted profile', async () => {
    const options = {
      runtimeClassName: 'gvisor',
      nodeSelector: { pool: 'runs' },
      tolerations: [{ key: 'runs', operator: 'Exists' }],
      imagePullSecrets: ['registry'],
      priorityClassName: 'low',
      serviceAccountName: 'runs',
    };
    await connect(options).start(spec, { signal: signal() });
    const sent = double.requests.find(({ method, path }) => method === 'POST' && path.endsWith('/jobs'));
    const settings = {
      namespace: 'runs',
      instance: 'default',
      userId: 10_001,
      ttlSeconds: 604_800,
      pendingMs: 600_000,
      resultBytes: 8 * 2 ** 20,
      ...options,
    };
    const built = jobManifest(spec, { from: 'config-map' }, [], settings);
    expect(JSON.parse(sent?.body ?? '{}')).toEqual(JSON.parse(JSON.stringify(built)));
    const pod = built.spec?.template.spec as never;
    expect(restrictedViolations(pod)).toEqual([]);
    // The checker can say no.
    expect(restrictedViolations({ hostNetwork: true, containers: [{ name: 'c' }], volumes: [{ name: 'v', hostPath: {} }] })).toHaveLength(
      6,
    );
    expect(built.spec).toMatchObject({
      backoffLimit: 0,
      template: { spec: { restartPolicy: 'Never', automountServiceAccountToken: false, enableServiceLinks: false } },
    });
    const mounts = built.spec?.template.spec?.containers[0]?.volumeMounts ?? [];
    expect(mounts.filter(({ readOnly }) => readOnly).map(({ mountPath }) => mountPath)).toEqual(['/code', '/data']);
    await connect().remove(spec);
    const removed = double.requests.find(({ method, path }) => method === 'DELETE' && path.includes('/jobs/'));
    expect(`${removed?.path}${removed?.body}`).toContain('Background');
  });

  it.each([
    ['the reply is lost', { reset: 'after' } as const],
    ['nothing was done', { reset: 'before' } as const],
    ['the server failed', { status: 500 } as const],
    ['there is too much to do', { status: 429, retryAfterSeconds: 1 } as const],
  ])('creating: %s; in the end there is one', async (_, fault) => {
    const executor = connect();
    double.fail('POST jobs', fault);
    await executor.start(spec, { signal: signal() }).catch((error) => {
      expect(error).toMatchObject({ code: 'executor-pending', retryable: true });
      return executor.start(spec, { signal: signal() });
    });
    expect(double.store.all('jobs')).toHaveLength(1);
    expect(await executor.list()).toMatchObject([{ runId: '7', attempt: 1 }]);
  });

  it('a Job of that name that is another service’s is not taken for ours', async () => {
    double.store.create('jobs', 'runs', { apiVersion: 'batch/v1', kind: 'Job', metadata: { name: 'cr-7-1' }, spec: {} });
    await expect(connect().start(spec, { signal: signal() })).rejects.toThrow(/belongs to another service.*instance/);
  });

  it('says what is wrong with the cluster: no config, no server, unknown, forbidden, no namespace', async () => {
    await expect(kubernetes({ namespace: 'x', kubeConfig: '/no/such/file' }).probe()).rejects.toThrow(
      /kubeconfig \/no\/such\/file can't be read.*KUBECONFIG/,
    );
    await expect(connect({}, 'unheard-of').probe()).rejects.toThrow(/401.*Renew the token/);
    await expect(connect({}, 'stranger').probe()).rejects.toThrow(/may not list jobs.*Apply deploy\/rbac.yaml/);
    await expect(connect({ namespace: 'elsewhere' }).probe()).rejects.toThrow(/no jobs of the namespace elsewhere/);
    const nowhere = new KubeConfig();
    nowhere.loadFromString(double.kubeConfig().replace(/127\.0\.0\.1:\d+/, '127.0.0.1:9'));
    await expect(connect({ kubeConfig: nowhere }).probe()).rejects.toMatchObject({
      retryable: true,
      message: expect.stringMatching(/can't be reached/),
    });
    const summary = (await connect().probe()).summary;
    expect(summary).toContain('Kubernetes Jobs in runs');
  });

  it.each([
    ['expired versions in the stream', () => double.expireWatches()],
    ['streams that are cut', () => double.resetStreams()],
    ['watches that fall silent', () => double.silenceWatches()],
    [
      'versions that are forgotten',
      () => {
        double.store.compact();
        double.resetStreams();
      },
    ],
    [
      'a server that refuses for a while',
      () => {
        double.fail('WATCH jobs', { status: 429, retryAfterSeconds: 1 });
        double.fail('WATCH pods', { status: 500 }, 2);
        double.fail('GET pods', { status: 503 });
        double.resetStreams();
      },
    ],
  ])('watching outlives %s', async (_, disturb) => {
    const executor = connect();
    const slow = { ...spec, command: ['python3', '-c', 'import time; time.sleep(0.8); print("done")'] };
    await executor.start(slow, { signal: signal() });
    const states: string[] = [];
    const watching = (async () => {
      for await (const seen of executor.observe(slow, { signal: signal() })) states.push(seen?.status.is ?? 'gone');
    })();
    await until(() => states.includes('running'));
    disturb();
    await watching;
    expect(states.at(-1)).toBe('ended');
  });

  it('a log that is cut again and again, and rotated, is gone on with: each line once', async () => {
    const executor = connect();
    const chatty = {
      ...spec,
      command: [
        'python3',
        '-uc',
        'import time\nfor i in range(60):\n  print("line", i)\n  time.sleep(0.02)\n  if i % 7 == 0: print("x" * 40000)\n',
      ],
    };
    await executor.start(chatty, { signal: signal() });
    const cutting = setInterval(() => double.resetStreams(), 90);
    double.fail('GET pods/log', { status: 500 }, 2);
    let text = '';
    try {
      for await (const { bytes } of executor.logs(chatty, { after: null, signal: signal() })) text += Buffer.from(bytes).toString();
    } finally {
      clearInterval(cutting);
    }
    const expected = Array.from({ length: 60 }, (_, i) => `line ${i}\n${i % 7 === 0 ? `${'x'.repeat(40_000)}\n` : ''}`).join('');
    expect(text.length).toBe(expected.length);
    expect(text === expected).toBe(true);
  });

  onEveryDatabase(
    'with the runner',
    (suite) => {
      const started = async (executor: Executor, more: Parameters<typeof suite.runner>[0] = {}, worker = {}): Promise<CodeRunner> => {
        const runner = suite.runner({ executor, languages: [python(), r(), scala()], ...more });
        await runner.worker({ grace: 300, sweep: 300, ...worker }).start();
        return runner;
      };

      it.for([
        ['python', '/usr/bin/python3', /Hello from Python 3/],
        ['r', '/usr/bin/Rscript', /Hello from R version/],
        ['scala', '/usr/bin/scalac', /Hello from Scala 2/],
      ] as const)('a new task of %s says hello in a pod', async ([language, binary, hello], { skip }) => {
        skip(!existsSync(binary), `${binary} is not installed`);
        const runner = await started(
          connect(),
          process.env.HOLDFAST_S3_URL ? { files: s3Files({ client: s3Client(), bucket: await bucket() }) } : {},
        );
        const task = await runner.tasks.create({ ...alice, name: 'hello', language });
        const run = await runner.runs.submit(task.id, alice);
        const events = await eventsOf(runner, run.id);
        expect(logOf(events)).toMatch(hello);
        expect(await runner.runs.get(run.id, alice)).toMatchObject({ state: 3, message: 'The program has finished.' });
        await until(
          () =>
            double.store.all('jobs').length === 0 && double.store.all('pods').length === 0 && double.store.all('configmaps').length === 0,
        );
      });

      it('from the submit to the request that creates its Job takes under 50 ms of ours', async () => {
        const runner = await started(connect(), { pools: { small: { slots: 4 } } });
        const figures: number[] = [];
        for (let i = 0; i < 15; i++) {
          const task = await runner.tasks.create({
            ...alice,
            name: 'fast',
            language: 'python',
            files: { 'r.py': 'print(1)' },
            main: 'r.py',
          });
          const before = double.requests.length;
          const begun = performance.now();
          const { id } = await runner.runs.submit(task.id, alice);
          const posted = await until(() =>
            double.requests.slice(before).find(({ method, path }) => method === 'POST' && path.endsWith('/jobs')),
          );
          figures.push(posted.at - begun);
          await eventsOf(runner, id);
        }
        const p50 = figures.sort((a, b) => a - b)[7] ?? Number.NaN;
        console.log(`submit to create: ${p50.toFixed(1)} ms p50`);
        expect(p50).toBeLessThan(50);
      });

      it('results come back, and the program that left them is gone', async () => {
        const runner = await started(connect());
        const { run } = await runToEnd(runner, 'import os\nos.mkdir("/out/d"); open("/out/d/r", "w").write("42")\n');
        expect(run).toMatchObject({ state: 3, output: { files: [{ path: 'd/r', size: 2 }] } });
        expect(await textOf(await runner.runs.output(run.id, 'd/r', alice))).toBe('42');
      });

      it.runIf(process.env.HOLDFAST_S3_URL)('large files and data sets go by an address of the store, without a key', async () => {
        const store = s3Files({ client: s3Client(), bucket: await bucket() });
        await store(undefined as never).put('data/alice/numbers', Buffer.from('1 2 3'), 5);
        const runner = await started(connect({ inlineBytes: 100 }), { files: store, authorize: (actor, _, { owner }) => actor === owner });
        const files = { 'run.py': 'print(open("/data/in/numbers").read(), len(open("big").read()))', big: 'x'.repeat(200_000) };
        const task = await runner.tasks.create({
          ...alice,
          name: 'big',
          language: 'python',
          files,
          main: 'run.py',
          dataSets: [{ path: 'in/numbers', object: 'data/alice/numbers' }],
        });
        const run = await runner.runs.submit(task.id, alice);
        expect(logOf(await eventsOf(runner, run.id))).toBe('1 2 3 200000\n');
        const sent = double.requests.find(({ method, path }) => method === 'POST' && path.endsWith('/jobs'))?.body ?? '';
        expect(sent).not.toContain('holdfast-secret');
        expect(sent).toContain('X-Amz-Signature');
      });

      it.each([
        ['evicted', (pod: string) => double.kubelet.evict(pod), 'EVICTED', /ran short of resources/],
        [
          'put off for its disk',
          (pod: string) => double.kubelet.evict(pod, 'Pod ephemeral local storage usage exceeds the total limit of containers 32Mi.'),
          'DISK',
          /its disk/,
        ],
        ['lost with its node', (pod: string) => double.kubelet.loseNode(pod), 'NODE_LOST', /machine that ran the program was lost/],
        [
          'deleted by somebody',
          (pod: string) => double.kubelet.remove(pod).then(() => double.store.remove('jobs', pod.replace(/-[^-]*$/, ''))),
          'NODE_LOST',
          /was lost/,
        ],
      ])('a pod that is %s is named so', async (_, disturb, reason, message) => {
        const runner = await started(connect());
        const { id } = await submit(runner, 'import time; print("up", flush=True); time.sleep(60)');
        for await (const event of runner.runs.events(id, { ...alice, signal: signal() })) if (event.type === 'log') break;
        await disturb(double.store.all('pods')[0]?.metadata.name ?? '');
        await eventsOf(runner, id);
        const run = await runner.runs.get(id, alice);
        expect(run).toMatchObject({ state: 4, reason });
        expect(run.message).toMatch(message);
      });

      it('a pod that no machine has room for, an image that is not there, and a quota that is used up are named in time', async () => {
        const waiting = { pending: 400 };
        double.unschedulable = true;
        const runner = await started(connect(), { languages: [python(), python({ image: 'missing/image:1' })].slice(0, 1) }, waiting);
        expect((await runToEnd(runner, 'print(1)')).run).toMatchObject({
          reason: 'UNSCHEDULABLE',
          message: expect.stringMatching(/Insufficient memory/),
        });
        double.unschedulable = false;
        double.quota = 0;
        expect((await runToEnd(runner, 'print(1)')).run).toMatchObject({
          reason: 'UNSCHEDULABLE',
          message: expect.stringMatching(/exceeded quota/),
        });
        double.quota = 10;
        const images = await started(
          connect({ instance: 'images' }),
          { languages: [python({ image: 'missing/image:1' })], pools: { images: { slots: 1 } } },
          waiting,
        );
        expect((await runToEnd(images, 'print(1)', { pool: 'images' })).run).toMatchObject({
          reason: 'IMAGE',
          message: expect.stringMatching(/missing\/image:1/),
        });
        await until(() => double.store.all('jobs').length === 0);
      });

      it('a stop finds a run wherever it is: before it is created, while it waits, while it runs, as it ends', async () => {
        const runner = await started(connect(), { pools: { small: { slots: 10 } } });
        double.startMs = 60;
        const runs = [];
        for (let i = 0; i < 12; i++) runs.push(await submit(runner, 'import time; print("up", flush=True); time.sleep(0.4)'));
        await Promise.all(
          runs.map(async ({ id }, i) => {
            await new Promise((resolve) => setTimeout(resolve, i * 35));
            await runner.runs.terminate(id, alice).catch((error) => expect(error.code).toBe('run-ended'));
          }),
        );
        const ends = new Set<number>();
        for (const { id } of runs) {
          const events = await eventsOf(runner, id);
          const terminal = events.filter((event) => event.type === 'state' && event.phase === 'terminal');
          expect(terminal).toHaveLength(1);
          const run = await runner.runs.get(id, alice);
          ends.add(run.state);
          // Whoever was first: a run that ended by itself says so, with its whole log.
          if (run.state === 3) expect(logOf(events)).toBe('up\n');
          else expect(run).toMatchObject({ state: 5, reason: null });
        }
        expect(ends.has(5)).toBe(true);
        await until(
          async () => double.store.all('jobs').length === 0 && (await suite.db.knex('holdfast_slot').whereNotNull('holder')).length === 0,
        );
      });

      it('what the API loses or forgets changes nothing for a run: one pod, one end, its log whole', async () => {
        const runner = await started(connect(), { pools: { small: { slots: 10 } } });
        const faults = [
          { reset: 'after' },
          { reset: 'before' },
          { status: 500 },
          { status: 429, retryAfterSeconds: 1 },
          { status: 409, reason: 'Injected' },
        ] as const;
        const runs = [];
        for (let i = 0; i < 10; i++) {
          const fault = faults[i % faults.length] ?? faults[0];
          double.fail('POST jobs', fault);
          double.fail('POST configmaps', i % 2 === 0 ? { reset: 'after' } : { reset: 'before' });
          double.fail('DELETE jobs', { reset: i % 2 === 0 ? 'after' : 'before' });
          runs.push(await submit(runner, 'import time\nfor i in range(4):\n  print(i, flush=True)\n  time.sleep(0.05)\n'));
          double.resetStreams();
        }
        for (const { id } of runs) {
          expect(logOf(await eventsOf(runner, id))).toBe('0\n1\n2\n3\n');
          expect(await runner.runs.get(id, alice)).toMatchObject({ state: 3 });
          expect(double.kubelet.started.get(`cr-${id}-1`)).toBe(1);
        }
        await until(() => double.store.all('jobs').length === 0 && double.store.all('configmaps').length === 0);
      });

      it('a worker that is stopped leaves its runs to the next, which goes on with their logs', async () => {
        const first = suite.runner({ executor: connect() });
        const worker = first.worker({ grace: 300, sweep: 300 });
        await worker.start();
        const { id } = await submit(first, 'import time\nfor i in range(20):\n  print(i, flush=True)\n  time.sleep(0.05)\n');
        for await (const event of first.runs.events(id, { ...alice, signal: signal() })) if (event.type === 'log') break;
        await worker.stop();
        const second = await started(connect());
        expect(logOf(await eventsOf(second, id))).toBe(Array.from({ length: 20 }, (_, i) => `${i}\n`).join(''));
        expect(await second.runs.get(id, alice)).toMatchObject({ state: 3, attempt: 1 });
      });
    },
    ['postgres'],
  );
});
