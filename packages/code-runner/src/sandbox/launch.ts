import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutionRef, ExecutionSpec } from '../executor/executor.ts';
import type { RunLimits } from '../runs/limits.ts';
import { bubblewrapArguments } from './bubblewrap.ts';
import type { Cgroup } from './cgroup.ts';
import type { OutputPipes } from './output-pipes.ts';
import type { Place } from './places.ts';
import { supervisor } from './supervisor.ts';

export interface Launch {
  readonly ref: ExecutionRef;
  readonly file: string;
  readonly args: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  readonly user: number | undefined;
  readonly cwd: string;
  /** Path of the seccomp filter, if one is used. */
  readonly seccomp: string | undefined;
  /** True if `file` is bubblewrap, which reports its child's pid and waits for permission to continue. */
  readonly wrapped: boolean;
  readonly limits: RunLimits;
  readonly cgroup: Cgroup | undefined;
  /** Path of `/out` on the machine, if it is not in the sandbox's own file system. */
  readonly out: string | undefined;
  readonly killAfterMs: number;
  readonly pipes: OutputPipes;
}

/** Settings for all launches of one local sandbox. */
export interface LaunchSettings {
  /** Makes the sandbox of each program; without it, programs are plain processes. */
  readonly bubblewrap: Bubblewrap | undefined;
  readonly killAfterMs: number;
  readonly pipes: OutputPipes;
}

export interface Bubblewrap {
  readonly file: string;
  /** A folder that replaces the machine's `/etc`. */
  readonly etc: string;
  /** Path of the seccomp filter, if one is used. */
  readonly seccomp: string | undefined;
  /** Whether this machine's shell tells how its jobs ended. */
  readonly jobs: boolean;
}

/** Builds the launch of a run whose files are in `folder`. */
export function launchOf(spec: ExecutionSpec, folder: string, place: Place, settings: LaunchSettings): Launch {
  const { language, limits } = spec;
  const environment = {
    PATH: '/usr/local/bin:/usr/bin:/bin',
    HOME: '/scratch',
    TMPDIR: '/tmp',
    LANG: 'C.UTF-8',
    USER: 'run',
    RUN_ID: spec.runId,
    OUT_DIR: '/out',
    DATA_DIR: '/data',
    ...language.environment,
    ...spec.environment,
  };
  // Programs reserve more address space than they use; virtual machines reserve much more.
  const addressBytes = limits.memoryBytes + 4 * (language.memoryOverheadBytes ?? 0) + 64 * 2 ** 20;
  const uncounted = { processes: limits.processes + 3, addressBytes };
  const program = supervisor(
    { fileBytes: limits.diskBytes, uncounted: place.cgroup ? undefined : uncounted },
    language.compile,
    spec.command,
    { stdinFile: spec.stdinFile, jobs: settings.bubblewrap?.jobs ?? false },
  );
  const common = {
    ref: { runId: spec.runId, attempt: spec.attempt, jobUid: spec.jobUid },
    user: place.user,
    limits,
    cgroup: place.cgroup,
    killAfterMs: settings.killAfterMs,
    pipes: settings.pipes,
  };
  const { bubblewrap } = settings;
  if (!bubblewrap) return { ...common, ...plain(folder, program, environment) };
  const data = spec.dataSets.length > 0 ? join(folder, 'data') : undefined;
  const fds = { status: 3, block: 4, seccomp: bubblewrap.seccomp === undefined ? undefined : 5 };
  const args = bubblewrapArguments({
    code: join(folder, 'code'),
    data,
    etc: bubblewrap.etc,
    environment,
    diskBytes: limits.diskBytes,
    fds,
  });
  return {
    ...common,
    file: bubblewrap.file,
    args: [...args, ...program],
    environment: {},
    cwd: '/',
    seccomp: bubblewrap.seccomp,
    wrapped: true,
    out: undefined,
  };
}

/** A launch without a sandbox: paths such as `/out` in command and environment are replaced by plain folders. */
function plain(
  folder: string,
  program: readonly string[],
  environment: Readonly<Record<string, string>>,
): Pick<Launch, 'file' | 'args' | 'environment' | 'cwd' | 'seccomp' | 'wrapped' | 'out'> {
  for (const name of ['code', 'data', 'scratch', 'tmp', 'out']) mkdirSync(join(folder, name), { recursive: true });
  const replaced = (text: string): string =>
    text.replaceAll(/(?<![\w./-])\/(code|data|scratch|tmp|out)(?![\w-])/g, (_, name: string) => join(folder, name));
  const [file = '', ...args] = program;
  return {
    file,
    args: args.map(replaced),
    environment: {
      ...Object.fromEntries(Object.entries(environment).map(([name, value]) => [name, replaced(value)])),
      PATH: process.env.PATH ?? '',
    },
    cwd: join(folder, 'code'),
    seccomp: undefined,
    wrapped: false,
    out: join(folder, 'out'),
  };
}
