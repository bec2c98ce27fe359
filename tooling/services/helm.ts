import { existsSync, mkdirSync, renameSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { servicesRoot } from '../paths.ts';
import { setUp } from './set-up-step.ts';

/** Renders charts, so that what they come to can be checked. */
const version = 'v3.19.0';
const binary = join(servicesRoot, 'bin', `helm-${version}`);

/** Helm, built by Go where it is not there. Returns its path, or `undefined` where it can't be had. */
export async function ensureHelm(log: (line: string) => void): Promise<string | undefined> {
  if (existsSync(binary)) return binary;
  const go = [...(process.env.PATH ?? '').split(delimiter), '/usr/local/go/bin'].map((folder) => join(folder, 'go')).find(existsSync);
  if (go) {
    const folder = join(servicesRoot, 'bin');
    mkdirSync(folder, { recursive: true });
    try {
      await setUp(log, {
        what: `Building Helm ${version} with ${go}`,
        takes: 'about four minutes',
        command: go,
        args: ['install', '-v', `helm.sh/helm/v3/cmd/helm@${version}`],
        limitMs: 900_000,
        env: { ...process.env, GOBIN: folder, HOME: process.env.HOME ?? '/root' },
      });
      renameSync(join(folder, 'helm'), binary);
      return binary;
    } catch (error) {
      log((error as Error).message);
    }
  }
  log('helm missing (the chart is not rendered; have Go 1.24 or newer)');
  return undefined;
}
