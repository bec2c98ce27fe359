import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { ExecutorUnavailableError } from '../errors.ts';

/** Counts of what the kernel has refused to a group. */
export interface Refusals {
  /** Processes that were killed for lack of memory. */
  readonly oomKills: number;
  /** Attempts to start a process above the limit. */
  readonly forks: number;
}

/** What the processes of a group have used since its limits were set; `null` is what the kernel doesn't tell. */
export interface GroupUsage {
  readonly cpuMs: number | null;
  readonly peakMemoryBytes: number | null;
}

export interface GroupLimits {
  readonly memoryBytes: number;
  readonly processes: number;
  readonly cpus: number;
}

/** Kernel limits for all processes of one place together. Made once per place, and used for one run after the other. */
export interface Cgroup {
  /** Sets the limits for the next run, and begins to measure anew. @throws ExecutorUnavailableError if the kernel refuses a value: it would refuse it again */
  limit(limits: GroupLimits): void;
  /**
   * Adds a process; processes that it starts later follow. Each hierarchy takes the kernel about 1.5 ms, so this does not block the
   * thread, and only one process is added.
   */
  add(pid: number): Promise<void>;
  refusals(): Refusals;
  usage(): GroupUsage;
  remove(): void;
}

export interface Cgroups {
  readonly version: 'v1' | 'v2';
  create(name: string): Cgroup;
}

const prefix = 'holdfast-runner-';

/** Finds the cgroups of this machine, if this process may make groups. */
export function findCgroups(root = '/sys/fs/cgroup'): Cgroups | undefined {
  try {
    const found = existsSync(join(root, 'cgroup.controllers')) ? v2(root) : v1(root);
    if (!found) return undefined;
    found.create(`${process.pid}-probe`).remove();
    return found;
  } catch {
    return undefined;
  }
}

function v1(root: string): Cgroups | undefined {
  const folders = { memory: join(root, 'memory'), pids: join(root, 'pids'), cpu: join(root, 'cpu') };
  if (!existsSync(folders.memory) || !existsSync(folders.pids)) return undefined;
  for (const folder of Object.values(folders)) sweep(folder);
  const hasCpu = existsSync(join(folders.cpu, 'cpu.cfs_quota_us'));
  return {
    version: 'v1',
    create(name) {
      const own = {
        memory: join(folders.memory, prefix + name),
        pids: join(folders.pids, prefix + name),
        cpu: join(folders.cpu, prefix + name),
      };
      mkdirSync(own.memory, { recursive: true });
      mkdirSync(own.pids, { recursive: true });
      if (hasCpu) mkdirSync(own.cpu, { recursive: true });
      let last = '';
      let quota = false;
      return {
        limit(limits) {
          write(own.memory, 'memory.max_usage_in_bytes', 0);
          const text = JSON.stringify(limits);
          if (text === last) return;
          last = '';
          // Without a limit on memory plus swap, a program would swap instead of ending. That limit may not be below the one on
          // memory: it is raised first and lowered last.
          writeIf(own.memory, 'memory.memsw.limit_in_bytes', -1);
          write(own.memory, 'memory.limit_in_bytes', limits.memoryBytes);
          writeIf(own.memory, 'memory.memsw.limit_in_bytes', limits.memoryBytes);
          write(own.pids, 'pids.max', limits.processes);
          // A limit of all cores needs no quota, which saves adding processes to the cpu hierarchy.
          quota = hasCpu && limits.cpus < availableParallelism();
          if (quota) write(own.cpu, 'cpu.cfs_quota_us', Math.max(1_000, Math.round(limits.cpus * 100_000)));
          last = text;
        },
        async add(pid) {
          const groups = [own.memory, own.pids, ...(quota ? [own.cpu] : [])];
          await Promise.all(groups.map((folder) => writeFile(join(folder, 'cgroup.procs'), String(pid))));
        },
        refusals: () => ({
          oomKills: field(read(own.memory, 'memory.oom_control'), 'oom_kill'),
          forks: field(read(own.pids, 'pids.events'), 'max'),
        }),
        // Adding processes to the hierarchy that counts processor time would take longer than it is worth: the supervisor counts it too.
        usage: () => ({ cpuMs: null, peakMemoryBytes: Number(read(own.memory, 'memory.max_usage_in_bytes')) || null }),
        remove() {
          for (const folder of Object.values(own)) removeGroup(folder);
        },
      };
    },
  };
}

/** Uses a subtree that is delegated to this process. A group whose children have limits must hold no process itself. */
function v2(root: string): Cgroups | undefined {
  const line = readFileSync('/proc/self/cgroup', 'utf8')
    .split('\n')
    .find((one) => one.startsWith('0::'));
  if (!line) return undefined;
  const self = join(root, line.slice(3));
  // Root may add groups anywhere; other users only where a service manager has delegated a subtree.
  const base = process.getuid?.() === 0 ? join(root, 'holdfast-runner.slice') : self;
  mkdirSync(base, { recursive: true });
  if (base === self) {
    const leaf = join(base, 'holdfast-service');
    mkdirSync(leaf, { recursive: true });
    for (const pid of read(base, 'cgroup.procs').trim().split('\n').filter(Boolean)) write(leaf, 'cgroup.procs', Number(pid));
  } else {
    write(root, 'cgroup.subtree_control', '+memory +pids +cpu');
  }
  write(base, 'cgroup.subtree_control', '+memory +pids +cpu');
  sweep(base);
  return {
    version: 'v2',
    create(name) {
      const own = join(base, prefix + name);
      mkdirSync(own, { recursive: true });
      let last = '';
      const peak = (): number => Number(read(own, 'memory.peak')) || 0;
      const cpuMs = (): number => Math.round(field(read(own, 'cpu.stat'), 'usage_usec') / 1_000);
      let before = { peak: 0, cpuMs: 0 };
      return {
        limit(limits) {
          // The kernel counts from the start of a group. One that is still in use for a moment stays.
          if (last !== '') {
            removeGroup(own);
            if (!existsSync(own)) last = '';
            mkdirSync(own, { recursive: true });
          }
          before = { peak: peak(), cpuMs: cpuMs() };
          const text = JSON.stringify(limits);
          if (text === last) return;
          last = '';
          write(own, 'memory.max', limits.memoryBytes);
          writeIf(own, 'memory.swap.max', 0);
          write(own, 'pids.max', limits.processes);
          write(own, 'cpu.max', `${Math.max(1_000, Math.round(limits.cpus * 100_000))} 100000`);
          last = text;
        },
        add: (pid) => writeFile(join(own, 'cgroup.procs'), String(pid)),
        refusals: () => ({ oomKills: field(read(own, 'memory.events'), 'oom_kill'), forks: field(read(own, 'pids.events'), 'max') }),
        usage: () => ({ cpuMs: cpuMs() - before.cpuMs, peakMemoryBytes: peak() > before.peak ? peak() : null }),
        remove: () => removeGroup(own),
      };
    },
  };
}

/** Removes groups of processes that no longer exist. */
function sweep(folder: string): void {
  if (!existsSync(folder)) return;
  for (const name of readdirSync(folder)) {
    const pid = /^holdfast-runner-(\d+)-/.exec(name)?.[1];
    if (pid && !existsSync(`/proc/${pid}`)) removeGroup(join(folder, name));
  }
}

function removeGroup(folder: string): void {
  try {
    rmdirSync(folder);
  } catch {
    // Still in use for a moment, or never made. The next process of this package removes it.
  }
}

/** Reads a file of a group; an empty text if the group is gone. */
function read(folder: string, file: string): string {
  try {
    return readFileSync(join(folder, file), 'utf8');
  } catch {
    return '';
  }
}

function write(folder: string, file: string, value: number | string): void {
  try {
    writeFileSync(join(folder, file), String(value));
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'EINVAL' && code !== 'ERANGE') throw error;
    throw new ExecutorUnavailableError(`The kernel refuses ${value} as ${file} of a cgroup (${code}). Ask for another limit.`, {
      cause: error,
    });
  }
}

function writeIf(folder: string, file: string, value: number | string): void {
  if (existsSync(join(folder, file))) write(folder, file, value);
}

function field(text: string, name: string): number {
  return Number(new RegExp(`^${name} (\\d+)`, 'm').exec(text)?.[1] ?? 0);
}
