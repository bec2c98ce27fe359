import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { servicesRoot } from '../paths.ts';

/** Renders charts, so that what they come to can be checked. */
const version = 'v3.19.0';
const binary = join(servicesRoot, 'bin', `helm-${version}`);

/** Helm, built by Go where it is not there. Returns its path, or `undefined` where it can't be had. */
export function ensureHelm(log: (line: string) => void): string | undefined {
  if (existsSync(binary)) return binary;
  const go = [...(process.env.PATH ?? '').split(delimiter), '/usr/local/go/bin'].map((folder) => join(folder, 'go')).find(existsSync);
  if (go) {
    log(`Building Helm ${version} with ${go} (once)`);
    const folder = join(servicesRoot, 'bin');
    mkdirSync(folder, { recursive: true });
    const env = { ...process.env, GOBIN: folder, HOME: process.env.HOME ?? '/root' };
    const built = spawnSync(go, ['install', `helm.sh/helm/v3/cmd/helm@${version}`], { env, encoding: 'utf8', timeout: 900_000 });
    if (built.status === 0) {
      spawnSync('mv', [join(folder, 'helm'), binary]);
      return binary;
    }
    log(`go install helm failed: ${built.stderr.trim().split('\n').slice(-2).join(' | ')}`);
  }
  log('helm missing (the chart is not rendered; have Go 1.24 or newer)');
  return undefined;
}
