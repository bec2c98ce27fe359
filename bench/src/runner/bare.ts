import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Programs in bubblewrap alone: namespaces and a read-only system, without database, limits, log or results. */
export function bareSandbox(code: string): { readonly run: () => Promise<number>; readonly remove: () => void } {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-bare-'));
  writeFileSync(join(folder, 'run.py'), code);
  const args = [
    '--unshare-all',
    '--die-with-parent',
    '--new-session',
    '--clearenv',
    '--setenv',
    'PATH',
    '/usr/bin',
    '--ro-bind',
    '/usr',
    '/usr',
  ];
  args.push(
    '--symlink',
    'usr/bin',
    '/bin',
    '--symlink',
    'usr/lib',
    '/lib',
    '--symlink',
    'usr/lib64',
    '/lib64',
    '--proc',
    '/proc',
    '--dev',
    '/dev',
  );
  args.push('--tmpfs', '/tmp', '--ro-bind', folder, '/code', '--chdir', '/code', 'python3', '-u', 'run.py');
  return {
    /** Runs a program. Resolves when it has ended, with the time until its first byte, in ms. */
    async run() {
      const started = performance.now();
      const child = spawn('/usr/bin/bwrap', args, { stdio: ['ignore', 'pipe', 'ignore'], env: {} });
      let first: number | undefined;
      child.stdout.on('data', () => {
        first ??= performance.now() - started;
      });
      const [exit] = await once(child, 'close');
      if (exit !== 0 || first === undefined) throw new Error(`bubblewrap ended with ${exit}`);
      return first;
    },
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}
