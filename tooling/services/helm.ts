import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { servicesRoot } from '../paths.ts';
import { buildGoProgram } from './go-program.ts';
import { attempt } from './set-up-step.ts';

const version = 'v3.19.0';
const binary = join(servicesRoot, 'bin', `helm-${version}`);

/** Builds Helm, which renders the chart for its test, unless it is there. Returns its path, or `undefined` if it can't be built. */
export async function ensureHelm(log: (line: string) => void): Promise<string | undefined> {
  if (!existsSync(binary))
    await attempt(log, () => buildGoProgram(log, { module: 'helm.sh/helm/v3/cmd/helm', version, binary, takes: 'about four minutes' }));
  if (existsSync(binary)) return binary;
  log('helm missing (the chart is not rendered; have Go 1.24 or newer)');
  return undefined;
}
