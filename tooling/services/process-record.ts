import { spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { servicesRoot } from '../paths.ts';

/** One server process that we started, as written to `.services/<name>/process.json`. */
export interface ProcessRecord {
  readonly pid: number;
  /** Start time of the process in clock ticks since boot: with the pid it names one process for good. */
  readonly startedTicks: string;
  readonly port: number;
}

export function serviceFolder(name: string): string {
  const folder = join(servicesRoot, name);
  mkdirSync(folder, { recursive: true });
  return folder;
}

/** The names under which our servers are recorded. */
export function recordedNames(): string[] {
  return existsSync(servicesRoot) ? readdirSync(servicesRoot).filter((name) => existsSync(join(servicesRoot, name, 'process.json'))) : [];
}

/** The record of a server, if it runs. A stale record (after a crash, a reboot, or a reuse of the pid) is removed. */
export function runningRecord(name: string): ProcessRecord | undefined {
  const file = join(serviceFolder(name), 'process.json');
  if (!existsSync(file)) return undefined;
  try {
    const record = JSON.parse(readFileSync(file, 'utf8')) as ProcessRecord;
    if (startTicks(record.pid) === record.startedTicks) return record;
  } catch {
    // Written only in part, by a start that was interrupted: treated as missing.
  }
  rmSync(file, { force: true });
  return undefined;
}

/** Starts a server in a session of its own, so that it outlives this process, and records it. */
export function startDetached(
  name: string,
  port: number,
  command: string,
  args: readonly string[],
  options: { readonly env?: NodeJS.ProcessEnv; readonly uid?: number; readonly gid?: number; readonly cwd?: string } = {},
): ProcessRecord {
  const folder = serviceFolder(name);
  const log = openSync(join(folder, 'server.log'), 'a');
  const child = spawn(command, args, { detached: true, stdio: ['ignore', log, log], cwd: folder, ...options });
  child.on('error', () => {
    // The missing pid below reports the failure.
  });
  child.unref();
  closeSync(log);
  const pid = child.pid;
  if (pid === undefined) throw new Error(`${command} could not be started`);
  const record = { pid, startedTicks: startTicks(pid) ?? '', port };
  writeFileSync(join(folder, 'process.json'), JSON.stringify(record));
  return record;
}

/** Ends the recorded process, and no other: with SIGTERM, and after 20 s with SIGKILL. */
export async function stopRecorded(name: string, signal: NodeJS.Signals): Promise<void> {
  const record = runningRecord(name);
  if (!record) return;
  // Each server has a process group of its own. A server that is asked to stop stops its children; a killed one can't.
  if (signal === 'SIGKILL') signalGroup(record.pid, signal);
  else process.kill(record.pid, signal);
  for (let i = 0; i < 200; i++) {
    if (startTicks(record.pid) !== record.startedTicks) break;
    if (i === 199) signalGroup(record.pid, 'SIGKILL');
    await sleep(100);
  }
  // Processes that the server left in its group.
  signalGroup(record.pid, 'SIGKILL');
  rmSync(join(serviceFolder(name), 'process.json'), { force: true });
}

/** Signals a recorded process and the processes that it started. */
export function signalGroup(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** Finds a free port of the loopback interface. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address ? address.port : 0));
    });
  });
}

function startTicks(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' ? undefined : fields[19];
  } catch {
    return undefined;
  }
}
