import { chmodSync, existsSync, lstatSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Makes the folder of this process, below `parent`, and removes those of processes that were killed. Only this user lists it. If programs run
 * as other users (`shared`), those may pass through it: bubblewrap mounts a run's files as the user of the run, to whom the run's own folder
 * belongs.
 */
export function makeOwnFolder(parent: string, shared: boolean): string {
  mkdirSync(parent, { recursive: true });
  removeStale(parent);
  const folder = mkdtempSync(join(parent, `holdfast-sandbox-${processKey('self')}-`));
  chmodSync(folder, shared ? 0o711 : 0o700);
  return folder;
}

function removeStale(parent: string): void {
  for (const name of readdirSync(parent)) {
    const [, namespace, pid] = /^holdfast-sandbox-((\d+)-(\d+)-\d+)-/.exec(name)?.slice(1) ?? [];
    if (pid === undefined || namespace !== pidNamespace()) continue;
    if (existsSync(`/proc/${pid}`) && name.startsWith(`holdfast-sandbox-${processKey(pid)}-`)) continue;
    const path = join(parent, name);
    const found = lstatSync(path, { throwIfNoEntry: false });
    // The system's temporary folder is everybody's: another user's folder may have any name.
    if (!found?.isDirectory() || found.uid !== process.getuid?.()) continue;
    rmSync(path, { recursive: true, force: true });
  }
}

/** Names a process of this machine: its number may be used again, but not with the same start, and containers count on their own. */
function processKey(pid: string): string {
  if (process.platform !== 'linux') return `0-${process.pid}-0`;
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The name of the program, in parentheses, may have blanks. The start time is the 22nd field.
    const started = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
    return `${pidNamespace()}-${stat.split(' ', 1)[0]}-${started}`;
  } catch {
    return 'gone';
  }
}

function pidNamespace(): string {
  return process.platform === 'linux' ? (/\d+/.exec(readlinkSync('/proc/self/ns/pid'))?.[0] ?? '0') : '';
}
