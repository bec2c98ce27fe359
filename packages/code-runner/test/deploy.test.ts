import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { silentLogger } from '@holdfast/core';
import { KubeConfig, loadAllYaml } from '@kubernetes/client-node';
import { afterAll, describe, expect, it } from 'vitest';
import { defaultRunLimits, type ExecutionSpec, python, r, scala } from '../src/index.ts';
import { kubernetes } from '../src/kubernetes/index.ts';
import { jobManifest } from '../src/kubernetes/job-manifest.ts';
import { localSandbox } from '../src/sandbox/index.ts';
import { kubernetesDouble } from '../src/testing/index.ts';
import { tls } from './tls.ts';

const root = join(import.meta.dirname, '..', '..', '..');
const deploy = join(import.meta.dirname, '..', 'deploy');
const validator = process.env.HOLDFAST_KUBERNETES_VALIDATE;
const folder = mkdtempSync(join(tmpdir(), 'holdfast-deploy-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Validates files in one process: to start the validator takes longer than to validate a file. It prints `<file> passed` for each that is valid. */
function validate(version: string, ...files: readonly string[]): { readonly status: number | null; readonly output: string } {
  const { status, stdout, stderr } = spawnSync('python3', ['-m', 'kubernetes_validate', '-k', version, '--strict', ...files], {
    env: { ...process.env, PYTHONPATH: validator },
    encoding: 'utf8',
  });
  return { status, output: stdout + stderr };
}

const spec = (more: Partial<ExecutionSpec>): ExecutionSpec => ({
  runId: '1',
  attempt: 1,
  jobUid: 'a'.repeat(32),
  taskId: '1',
  actor: 'a',
  language: python(),
  command: ['python3', 'run.py'],
  limits: defaultRunLimits,
  files: [],
  dataSets: [],
  ...more,
});
const settings = { namespace: 'runs', instance: 'default', userId: 10_001, ttlSeconds: 1, pendingMs: 1, resultBytes: 1 };

describe.runIf(validator)("against Kubernetes' own schemas", () => {
  it.each(['1.30', '1.31', '1.34', '1.37'])(
    'the manifests of deploy/ and every kind of Job are valid in %s, to the last field',
    (version) => {
      const jobs = [
        jobManifest(spec({}), { from: 'config-map' }, [], settings),
        jobManifest(
          spec({ language: scala(), dataSets: [{ path: 'a/b', object: 'o', open: async () => undefined as never }] }),
          { from: 'url', url: 'https://s3/x' },
          ['https://s3/y'],
          {
            ...settings,
            runtimeClassName: 'gvisor',
            tolerations: [{ key: 'a', operator: 'Exists' }],
            nodeSelector: { a: 'b' },
            imagePullSecrets: ['s'],
            priorityClassName: 'p',
            serviceAccountName: 'runs',
          },
        ),
        jobManifest(spec({ language: r() }), { from: 'config-map' }, [], settings),
      ];
      const files = readdirSync(deploy).map((file) => join(deploy, file));
      for (const [i, job] of jobs.entries()) {
        const file = join(folder, `job-${version}-${i}.json`);
        writeFileSync(file, JSON.stringify(job));
        files.push(file);
      }
      const { status, output } = validate(version, ...files);
      expect(status, output).toBe(0);
      for (const file of files) expect(output).toContain(`${file} passed`);
    },
  );

  it('a field that is misspelt is found: this test can fail', () => {
    const job = JSON.parse(JSON.stringify(jobManifest(spec({}), { from: 'config-map' }, [], settings)));
    job.spec.template.spec.containers[0].securityContext.allowPrivilegeEscalatoin = false;
    writeFileSync(join(folder, 'bad.json'), JSON.stringify(job));
    expect(validate('1.31', join(folder, 'bad.json')).status).not.toBe(0);
  });
});

describe.runIf(existsSync('/usr/bin/bwrap'))('the cluster', () => {
  it('asks for nothing that deploy/rbac.yaml does not allow, and the conformance command passes there', async () => {
    await using double = await kubernetesDouble({
      sandbox: localSandbox({ killAfterMs: 300 }),
      namespace: 'holdfast-runs',
      ...(await tls()),
    });
    const config = join(folder, 'kubeconfig');
    writeFileSync(config, double.kubeConfig());
    const child = spawn(
      process.execPath,
      [
        '--conditions=@holdfast/source',
        '--disable-warning=ExperimentalWarning',
        join(root, 'tooling', 'conformance.ts'),
        '--kubeconfig',
        config,
      ],
      {
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    );
    let printed = '';
    child.stdout.on('data', (data) => {
      printed += data;
    });
    const [code] = await once(child, 'exit');
    expect(printed).toMatch(/10 passed, 0 failed/);
    expect(code).toBe(0);
    // A watch that is idle, a run that is stopped: the rest of what is ever asked.
    const kubeConfig = new KubeConfig();
    kubeConfig.loadFromString(double.kubeConfig());
    const executor = kubernetes({ namespace: 'holdfast-runs', kubeConfig, logger: silentLogger });
    await executor.probe();
    await executor.close();
    const role = loadAllYaml(readFileSync(join(deploy, 'rbac.yaml'), 'utf8')).find((one: { kind: string }) => one.kind === 'Role') as {
      rules: { apiGroups: string[]; resources: string[]; verbs: string[] }[];
    };
    const allowed = new Set(
      role.rules.flatMap(({ resources, verbs }) => resources.flatMap((resource) => verbs.map((verb) => `${verb} ${resource}`))),
    );
    const asked = new Set<string>();
    for (const { method, path } of double.requests) {
      const [, resource = '', name, log] = /\/namespaces\/[^/]+\/(\w+)(?:\/([^/?]+))?(\/log)?/.exec(path) ?? [];
      const verb =
        method === 'GET'
          ? name
            ? 'get'
            : path.includes('watch=true')
              ? 'watch'
              : 'list'
          : { POST: 'create', PATCH: 'patch', DELETE: 'delete' }[method];
      asked.add(`${verb} ${resource}${log ?? ''}`);
    }
    expect([...asked].filter((one) => !allowed.has(one))).toEqual([]);
    // Nor is more allowed than is ever asked.
    expect([...allowed].filter((one) => !asked.has(one))).toEqual([]);
  }, 120_000);

  it('a command without a config says how it is used, one that is refused why', () => {
    const run = (...args: string[]): { readonly status: number | undefined; readonly stderr: string } => {
      try {
        execFileSync(
          process.execPath,
          ['--conditions=@holdfast/source', '--disable-warning=ExperimentalWarning', join(root, 'tooling', 'conformance.ts'), ...args],
          { stdio: 'pipe' },
        );
        return { status: 0, stderr: '' };
      } catch (error) {
        const { status, stderr } = error as { status: number; stderr: Buffer };
        return { status, stderr: stderr.toString() };
      }
    };
    expect(run()).toMatchObject({ status: 2, stderr: expect.stringContaining('--kubeconfig FILE') });
    expect(run('--kubeconfig', '/no/such')).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/kubeconfig \/no\/such can't be read/),
    });
  });
});
