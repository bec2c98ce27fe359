import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { type Account, canInstall, installPackages } from './debian.ts';
import type { Home } from './home.ts';
import { serviceFolder, startDetached } from './process-record.ts';
import { setUp } from './set-up-step.ts';

/** The contents of a folder. */
interface FolderOptions {
  /** The Debian suite that the packages come from. */
  readonly suite: 'sid' | 'trixie';
  readonly package: string;
  /** A program in the folder whose presence shows that the folder is complete. */
  readonly binary: string;
  /** An account to create where the package creates none. */
  readonly user?: string;
}

/**
 * Programs of a newer Debian suite. They need newer libraries than this machine has, so each is installed into a folder with a small Debian,
 * made by debootstrap, and runs with this folder as its root. The folder is made once per machine, in the user's cache (a minute, 0.6 GB).
 * To get newer programs, remove the folder.
 *
 * A program runs in a mount namespace of its own, in which the server's folder under `.services/` has the same path as outside:
 * data and logs are where those of every other server are, and the mounts end with the program.
 */
export function debianFolder(options: FolderOptions): Home {
  const cache = process.env.XDG_CACHE_HOME || join(homedir(), '.cache');
  const folder = join(cache, 'holdfast', 'debian', `${options.suite}-${options.package}`);
  return {
    packages: [],
    binaries: [join(folder, options.binary)],
    missing: `run as root on Debian to have ${options.package} of Debian ${options.suite} put into ${folder}`,
    install: (log) => makeFolder(folder, options, log),
    account: (name) => accountIn(folder, name),
    run: (name, command, args, owner) => {
      execFileSync('unshare', inside(folder, serviceFolder(name), command, args, owner), { stdio: ['ignore', 'ignore', 'pipe'] });
    },
    start: (name, port, command, args, owner, env = {}) => {
      const environment = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LANG: 'C.UTF-8', ...env };
      startDetached(name, port, 'unshare', inside(folder, serviceFolder(name), command, args, owner), { env: environment });
    },
  };
}

async function makeFolder(
  folder: string,
  { suite, package: name, binary, user }: FolderOptions,
  log: (line: string) => void,
): Promise<void> {
  if (!canInstall()) return;
  if (!existsSync('/usr/sbin/debootstrap')) await installPackages(['debootstrap'], log);
  const partial = `${folder}.partial`;
  rmSync(partial, { recursive: true, force: true });
  mkdirSync(partial, { recursive: true });
  await setUp(log, {
    what: `Making ${folder} with ${name} of Debian ${suite}`,
    takes: 'about a minute, 0.6 GB, for all checkouts of this machine',
    command: 'debootstrap',
    args: ['--variant=minbase', `--include=${name}`, suite, partial, mirror()],
  });
  if (!existsSync(join(partial, binary))) throw new Error(`debootstrap of ${name} from Debian ${suite} did not install ${binary}.`);
  // Debootstrap does not write this file, and RabbitMQ and MariaDB look up their own host name.
  writeFileSync(join(partial, 'etc', 'hosts'), '127.0.0.1 localhost\n');
  if (user !== undefined) execFileSync('chroot', [partial, 'useradd', '--system', user]);
  renameSync(partial, folder);
}

/** The archive that this machine's own packages come from. */
function mirror(): string {
  const sites = execFileSync('apt-get', ['indextargets', '--format', '$(SITE)', 'Created-By: Packages', 'Label: Debian'], {
    encoding: 'utf8',
  });
  const site = sites.split('\n')[0];
  if (!site) throw new Error('apt-get has no Debian archive configured; see the files in /etc/apt/sources.list.d.');
  return site;
}

function accountIn(folder: string, name: string): Account {
  const line = readFileSync(join(folder, 'etc', 'passwd'), 'utf8')
    .split('\n')
    .find((entry) => entry.startsWith(`${name}:`));
  if (line === undefined) throw new Error(`${folder}/etc/passwd has no account ${name}. Remove ${folder}; the next run makes it again.`);
  const [, , uid, gid] = line.split(':');
  return { uid: Number(uid), gid: Number(gid) };
}

/**
 * Each command replaces the process of the one before (`exec`), so the recorded pid is the server's. /tmp is mounted first: a checkout in
 * /tmp has its data there, and a later mount of /tmp would hide it.
 */
const enter = `set -e
root=$1 shared=$2 owner=$3
shift 3
mount --bind /tmp "$root/tmp"
mkdir -p "$root$shared"
mount --bind "$shared" "$root$shared"
mount --rbind /dev "$root/dev"
mount --rbind /proc "$root/proc"
exec chroot --userspec="$owner" "$root" "$@"`;

function inside(folder: string, shared: string, command: string, args: readonly string[], { uid, gid }: Account): string[] {
  return ['--mount', '--propagation', 'private', 'sh', '-c', enter, 'sh', folder, shared, `${uid}:${gid}`, command, ...args];
}
