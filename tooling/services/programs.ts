import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { servicesRoot } from '../paths.ts';
import { canInstall, installPackages } from './debian.ts';
import { attempt } from './set-up-step.ts';

/** Programs that the code runner's sandbox and its languages need. */
const programs = [
  { name: 'bubblewrap', binary: '/usr/bin/bwrap', package: 'bubblewrap' },
  { name: 'python', binary: '/usr/bin/python3', package: 'python3' },
  { name: 'r', binary: '/usr/bin/Rscript', package: 'r-base-core' },
  { name: 'scala', binary: '/usr/bin/scalac', package: 'scala' },
  { name: 'java', binary: '/usr/bin/java', package: 'default-jre-headless' },
] as const;

/** Installs the programs that are missing, where packages can be installed. Returns the names of those that are missing afterwards. */
export async function ensurePrograms(wanted: (name: string) => boolean, log: (line: string) => void): Promise<readonly string[]> {
  const list = programs.filter(({ name }) => wanted(name));
  const absent = list.filter(({ binary }) => !existsSync(binary));
  const packages = absent.map((program) => program.package);
  if (packages.length > 0 && canInstall()) await attempt(log, () => installPackages(packages, log));
  const missing = list.filter(({ binary }) => !existsSync(binary));
  for (const { name, binary, package: from } of missing)
    log(`${name.padEnd(12)} missing (no ${binary}; install ${from}, or run as root on Debian to have it installed)`);
  return missing.map(({ name }) => name);
}

const validator = 'kubernetes-validate==1.37.0';

/** Installs the schemas of the Kubernetes API, a Python package. Returns its folder, or `undefined` if it can't be installed. */
export async function ensureValidator(log: (line: string) => void): Promise<string | undefined> {
  const folder = join(servicesRoot, 'python');
  if (existsSync(join(folder, 'kubernetes_validate'))) return folder;
  const pip = (): boolean => spawnSync('python3', ['-m', 'pip', '--version'], { stdio: 'ignore' }).status === 0;
  if (!pip() && canInstall()) await attempt(log, () => installPackages(['python3-pip'], log));
  const args = ['-m', 'pip', 'install', '-q', '--disable-pip-version-check', '--root-user-action=ignore', '--target', folder, validator];
  if (pip() && spawnSync('python3', args, { stdio: 'ignore', timeout: 300_000 }).status === 0) return folder;
  log("kubernetes-validate missing (manifests are not held against Kubernetes' schemas; have python3 with pip)");
  return undefined;
}
