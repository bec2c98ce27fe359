import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';

/** What a group has been refused so far. */
export interface Refusals {
  /** Processes that were killed for memory. */
  readonly oomKills: number;
  /** Times that no further process could be started. */
  readonly forks: number;
}

export interface GroupLimits {
  readonly memoryBytes: number;
  readonly processes: number;
  readonly cpus: number;
}

/** Limits of the kernel's for all processes of one slot together. Made once per slot, and used for one run after the other. */
export interface Cgroup {
  limit(limits: GroupLimits): void;
  /** A process and what it starts from now on. Each hierarchy takes the kernel about a millisecond and a half, so threads wait for it, and it is asked of one process alone. */
  add(pid: number): Promise<void>;
  refusals(): Refusals;
  remove(): void;
}

export interface Cgroups {
  readonly version: 'v1' | 'v2';
  create(name: string): Cgroup;
}

const prefix = 'holdfast-runner-';

/** The cgroups of this machine, if this process may make some. */
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
          const text = JSON.stringify(limits);
          if (text === last) return;
          last = text;
          // Swap would make the limit one of memory plus patience. The sum may not be below the part: raised first, lowered last.
          writeIf(own.memory, 'memory.memsw.limit_in_bytes', -1);
          write(own.memory, 'memory.limit_in_bytes', limits.memoryBytes);
          writeIf(own.memory, 'memory.memsw.limit_in_bytes', limits.memoryBytes);
          write(own.pids, 'pids.max', limits.processes);
          // As many cores as there are: no quota, and no hierarchy to be moved into.
          quota = hasCpu && limits.cpus < availableParallelism();
          if (quota) write(own.cpu, 'cpu.cfs_quota_us', Math.max(1_000, Math.round(limits.cpus * 100_000)));
        },
        async add(pid) {
          const groups = [own.memory, own.pids, ...(quota ? [own.cpu] : [])];
          await Promise.all(groups.map((folder) => writeFile(join(folder, 'cgroup.procs'), String(pid))));
        },
        refusals: () => ({
          oomKills: field(read(own.memory, 'memory.oom_control'), 'oom_kill'),
          forks: field(read(own.pids, 'pids.events'), 'max'),
        }),
        remove() {
          for (const folder of Object.values(own)) removeGroup(folder);
        },
      };
    },
  };
}

/** In a subtree that is delegated to us: below our own group, which must hold no process itself once it has children with limits. */
function v2(root: string): Cgroups | undefined {
  const line = readFileSync('/proc/self/cgroup', 'utf8')
    .split('\n')
    .find((one) => one.startsWith('0::'));
  if (!line) return undefined;
  const self = join(root, line.slice(3));
  // As root the whole tree is ours to add to; otherwise only where a service manager has delegated.
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
      return {
        limit(limits) {
          const text = JSON.stringify(limits);
          if (text === last) return;
          last = text;
          write(own, 'memory.max', limits.memoryBytes);
          writeIf(own, 'memory.swap.max', 0);
          write(own, 'pids.max', limits.processes);
          write(own, 'cpu.max', `${Math.max(1_000, Math.round(limits.cpus * 100_000))} 100000`);
        },
        add: (pid) => writeFile(join(own, 'cgroup.procs'), String(pid)),
        refusals: () => ({ oomKills: field(read(own, 'memory.events'), 'oom_kill'), forks: field(read(own, 'pids.events'), 'max') }),
        remove: () => removeGroup(own),
      };
    },
  };
}

/** Groups of processes that are gone. */
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
    // Still in use for a moment, or never made; the next process of ours sweeps it.
  }
}

/** What a file says; nothing once its group is gone. */
function read(folder: string, file: string): string {
  try {
    return readFileSync(join(folder, file), 'utf8');
  } catch {
    return '';
  }
}

function write(folder: string, file: string, value: number | string): void {
  writeFileSync(join(folder, file), String(value));
}

function writeIf(folder: string, file: string, value: number | string): void {
  if (existsSync(join(folder, file))) write(folder, file, value);
}

function field(text: string, name: string): number {
  return Number(new RegExp(`^${name} (\\d+)`, 'm').exec(text)?.[1] ?? 0);
}
