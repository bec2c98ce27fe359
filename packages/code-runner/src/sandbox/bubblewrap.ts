import { chmodSync, cpSync, existsSync, lstatSync, mkdirSync, readdirSync, readlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

export interface BubblewrapOptions {
  readonly code: string;
  readonly data: string | undefined;
  /** A folder that replaces the machine's `/etc`: see {@link makeEtc}. */
  readonly etc: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly diskBytes: number;
  /** File descriptors that bubblewrap inherits. */
  readonly fds: { readonly status: number; readonly block: number; readonly seccomp: number | undefined };
}

/** Entries of `/etc` that programs need, and may see: for libraries, languages and time zones. */
const etc = ['alternatives', 'ld.so.cache', 'ld.so.conf', 'ld.so.conf.d', 'localtime', 'R', 'fonts', 'ssl/certs', 'mime.types'];

/**
 * Makes an `/etc` for programs, with copies of {@link etc} and its own accounts. One bind mount instead of a dozen saves 1.7 ms per
 * start.
 */
export function makeEtc(folder: string): void {
  const java = existsSync('/etc') ? readdirSync('/etc').filter((name) => name.startsWith('java-')) : [];
  for (const name of [...etc, ...java]) {
    if (!existsSync(join('/etc', name))) continue;
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    cpSync(join('/etc', name), join(folder, name), { recursive: true, verbatimSymlinks: true });
  }
  writeFileSync(join(folder, 'passwd'), 'run:x:1000:1000::/scratch:/bin/sh\nnobody:x:65534:65534::/:/usr/sbin/nologin\n');
  writeFileSync(join(folder, 'group'), 'run:x:1000:\nnogroup:x:65534:\n');
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true }))
    if (!entry.isSymbolicLink()) chmodSync(join(entry.parentPath, entry.name), entry.isDirectory() ? 0o755 : 0o644);
  chmodSync(folder, 0o755);
}

/**
 * Arguments for a sandbox in which a program sees `/usr` and parts of `/etc`, read-only; its files under `/code` and `/data`, read-only;
 * and `/scratch`, `/tmp`, `/out` and `/dev/shm` in memory, with limited size, until the sandbox ends. The program has no network except
 * its own loopback, sees no processes except its own, and has no privileges and no other user.
 */
export function bubblewrapArguments(options: BubblewrapOptions): string[] {
  const { code, data, environment, diskBytes, fds } = options;
  const args = ['--unshare-user', '--unshare-pid', '--unshare-net', '--unshare-ipc', '--unshare-uts', '--unshare-cgroup-try'];
  // The supervisor is process 1: the program can't signal it, and one process less is started.
  args.push('--as-pid-1', '--die-with-parent', '--new-session', '--hostname', 'run', '--uid', '1000', '--gid', '1000', '--clearenv');
  for (const [name, value] of Object.entries(environment)) args.push('--setenv', name, value);
  args.push('--ro-bind', '/usr', '/usr');
  for (const folder of ['/bin', '/sbin', '/lib', '/lib32', '/lib64', '/libx32']) {
    if (!existsSync(folder)) continue;
    if (lstatSync(folder).isSymbolicLink()) args.push('--symlink', readlinkSync(folder), folder);
    else args.push('--ro-bind', folder, folder);
  }
  args.push('--ro-bind', options.etc, '/etc');
  args.push('--proc', '/proc', '--dev', '/dev');
  for (const folder of ['/dev/shm', '/scratch', '/tmp', '/out'])
    args.push('--perms', '0755', '--size', String(diskBytes), '--tmpfs', folder);
  args.push('--ro-bind', code, '/code');
  if (data === undefined) args.push('--dir', '/data');
  else args.push('--ro-bind', data, '/data');
  // The rest of the root and of /dev is read-only as well, since no size limits files there.
  args.push('--remount-ro', '/dev', '--remount-ro', '/', '--chdir', '/code');
  if (fds.seccomp !== undefined) args.push('--seccomp', String(fds.seccomp));
  args.push('--json-status-fd', String(fds.status), '--block-fd', String(fds.block));
  return args;
}
