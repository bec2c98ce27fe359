import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { parse, parseAllDocuments, stringify } from 'yaml';
import { configSchema } from '../src/config.ts';

const deploy = join(import.meta.dirname, '..', 'deploy');
const root = join(import.meta.dirname, '..', '..', '..');
const { HOLDFAST_HELM: helm, HOLDFAST_KUBERNETES_VALIDATE: validator } = process.env;
const folder = mkdtempSync(join(tmpdir(), 'dispatch-deploy-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

// biome-ignore lint/suspicious/noExplicitAny: manifests of many kinds
type Manifest = any;

function render(...values: string[]): { readonly text: string; readonly manifests: readonly Manifest[] } {
  const { status, stdout, stderr } = spawnSync(helm as string, ['template', 'demo', join(deploy, 'chart'), ...values], {
    encoding: 'utf8',
  });
  expect(status, stderr).toBe(0);
  return {
    text: stdout,
    manifests: parseAllDocuments(stdout)
      .map((document) => document.toJS())
      .filter(Boolean),
  };
}

describe.runIf(helm)('the chart', () => {
  it('runs API, worker and relay as deployments of their own: probed, without root, on a file system that can’t be written', () => {
    const { text, manifests } = render();
    const deployments = manifests.filter(({ kind }) => kind === 'Deployment');
    expect(deployments.map(({ metadata }) => metadata.name)).toEqual(['demo-api', 'demo-worker', 'demo-relay']);
    for (const { metadata, spec } of deployments) {
      const pod = spec.template.spec;
      const [container] = pod.containers;
      expect(pod.securityContext, metadata.name).toMatchObject({ runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } });
      expect(container.securityContext).toEqual({
        allowPrivilegeEscalation: false,
        readOnlyRootFilesystem: true,
        capabilities: { drop: ['ALL'] },
      });
      for (const probe of ['livenessProbe', 'readinessProbe', 'startupProbe']) expect(container[probe].httpGet.port).toBe('http');
      expect(container.resources.limits.memory).toBeTruthy();
      expect(pod.automountServiceAccountToken).toBe(metadata.name === 'demo-worker');
      expect(container.envFrom).toEqual([{ secretRef: { name: 'compute-dispatch' } }]);
      // Only what the service knows, and nothing secret.
      for (const { name } of container.env) expect(Object.keys(configSchema.shape)).toContain(name);
      expect(
        container.env.map(({ name }: { name: string }) => name).filter((name: string) => /SECRET|KEY|TOKEN|DATABASE|BROKER/.test(name)),
      ).toEqual([]);
      const budget = manifests.find(({ kind, metadata: { name } }) => kind === 'PodDisruptionBudget' && name === metadata.name);
      expect(budget.spec.selector.matchLabels).toEqual(spec.selector.matchLabels);
    }
    const kinds = manifests.map(({ kind }) => kind);
    for (const kind of ['NetworkPolicy', 'Service', 'Job', 'RoleBinding', 'ServiceAccount']) expect(kinds).toContain(kind);
    const migration = manifests.find(({ kind }) => kind === 'Job');
    expect(migration.metadata.annotations['helm.sh/hook']).toBe('pre-install,pre-upgrade');
    expect(migration.spec.template.spec.containers[0].args).toEqual(['migrate']);
    expect(text).not.toMatch(/kind: Secret\b/);
    expect(render('--set', 'env.DISPATCH_EXECUTOR=none').manifests.map(({ kind }) => kind)).not.toContain('RoleBinding');
  });

  it.runIf(validator).each(['1.30', '1.34', '1.37'])('comes to manifests that Kubernetes %s takes, to the last field', (version) => {
    // In one process: to start the validator takes longer than to validate a manifest.
    const validate = (...manifests: readonly Manifest[]): { readonly status: number | null; readonly output: string } => {
      const files = manifests.map((manifest, i) => {
        const file = join(folder, `${i}.yaml`);
        writeFileSync(file, stringify(manifest, { aliasDuplicateObjects: false }));
        return file;
      });
      const { status, stdout, stderr } = spawnSync('python3', ['-m', 'kubernetes_validate', '-k', version, '--strict', ...files], {
        env: { ...process.env, PYTHONPATH: validator },
        encoding: 'utf8',
      });
      return { status, output: stdout + stderr };
    };
    const { manifests } = render();
    const { status, output } = validate(...manifests);
    expect(status, output).toBe(0);
    expect(output.match(/ passed for /g)).toHaveLength(manifests.length);
    const [first] = manifests;
    expect(validate({ ...first, spec: { ...first.spec, podSelektor: {} } }).status).not.toBe(0);
  });
});

describe('the container file and the compose file', () => {
  it('build in stages, run as nobody’s root, and are probed', () => {
    const file = readFileSync(join(deploy, 'Dockerfile'), 'utf8');
    expect(file.match(/^FROM /gm)).toHaveLength(2);
    expect(file).toMatch(/^USER 10001:10001$/m);
    expect(file).toMatch(/^HEALTHCHECK /m);
  });

  it('name only variables that the service knows', () => {
    const compose: Manifest = parse(readFileSync(join(root, 'compose.yaml'), 'utf8'), { merge: true });
    const services = Object.entries<Manifest>(compose.services).filter(([name]) => name.startsWith('dispatch-'));
    expect(services.map(([name]) => name)).toEqual([
      'dispatch-migrate',
      'dispatch-api',
      'dispatch-worker',
      'dispatch-relay',
      'dispatch-room',
    ]);
    for (const [name, service] of services) {
      expect(service, name).toMatchObject({ profiles: ['dispatch'], read_only: true, cap_drop: ['ALL'] });
      const result = configSchema.safeParse(service.environment);
      expect(result.error?.issues ?? [], name).toEqual([]);
      for (const variable of Object.keys(service.environment)) expect(Object.keys(configSchema.shape)).toContain(variable);
    }
  });
});
