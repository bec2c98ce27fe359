import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { setUp } from './set-up-step.ts';

const policy = '/usr/sbin/policy-rc.d';

/** Returns whether packages can be installed here: root on Debian or a relative of it. */
export function canInstall(): boolean {
  return process.getuid?.() === 0 && existsSync('/usr/bin/apt-get');
}

/** Installs Debian packages without letting them start their services. Throws with apt's last lines. */
export async function installPackages(packages: readonly string[], log: (line: string) => void): Promise<void> {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const ownPolicy = !existsSync(policy);
  // The documented way to keep a package's own service from being started by its installation.
  if (ownPolicy) writeFileSync(policy, '#!/bin/sh\nexit 101\n', { mode: 0o755 });
  try {
    spawnSync('apt-get', ['update', '-qq'], { env, stdio: 'ignore' });
    await setUp(log, {
      what: `Installing Debian packages: ${packages.join(' ')}`,
      takes: 'up to five minutes',
      command: 'apt-get',
      args: ['install', '-y', '--no-install-recommends', '-o', 'DPkg::Lock::Timeout=300', ...packages],
      env,
    });
  } finally {
    if (ownPolicy) rmSync(policy, { force: true });
  }
}

/** User and group id under which a server runs. */
export interface Account {
  readonly uid: number;
  readonly gid: number;
}

/** The ids of a system account. */
export function account(name: string): Account {
  const id = (flag: string): number => Number(execFileSync('id', [flag, name], { encoding: 'utf8' }));
  return { uid: id('-u'), gid: id('-g') };
}
