import { spawnSync } from 'node:child_process';
import { chownSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { ExecutorUnavailableError } from '../errors.ts';
import type { ExecutionSpec, Isolation } from '../executor/executor.ts';
import type { Language } from '../languages/language.ts';
import { defaultRunLimits } from '../runs/limits.ts';
import { findCgroups } from './cgroup.ts';
import { listOpen } from './inherited.ts';
import { type Bubblewrap, type LaunchSettings, launchOf } from './launch.ts';
import { materialise } from './materialise.ts';
import { callPrograms, onlyListedCalls, runCalls } from './one-call.ts';
import { OutputPipes } from './output-pipes.ts';
import { Places } from './places.ts';
import { SandboxRun } from './sandbox-run.ts';
import { seccompFilter } from './seccomp.ts';
import { tellsJobs, tryJobs } from './supervisor.ts';

export interface ProbeOptions {
  /** Path of bubblewrap. */
  readonly file: string;
  /** True if programs run as plain processes. */
  readonly trusted: boolean;
  /** Returns the folder of this process, which is made at the first call. */
  readonly folder: () => string;
  readonly firstUserId: number;
  readonly killAfterMs: number;
}

/** Settings for starting runs, from a successful probe. */
export interface Ready {
  readonly isolation: Isolation;
  readonly places: Places;
  readonly settings: LaunchSettings;
}

/** Finds out which isolation this machine offers. @throws ExecutorUnavailableError that says what is missing and how to fix it */
export async function probe({ file, trusted, folder, firstUserId, killAfterMs }: ProbeOptions): Promise<Ready> {
  const pipes = new OutputPipes(folder);
  if (trusted)
    return {
      isolation: {
        summary: 'none: programs are plain processes of this user',
        details: { namespaces: false, seccomp: false, cgroups: false, ownUser: false },
      },
      places: new Places({ firstUserId: undefined, cgroups: undefined }),
      settings: { bubblewrap: undefined, killAfterMs, pipes },
    };
  if (process.platform !== 'linux')
    throw new ExecutorUnavailableError(
      `The local sandbox needs Linux; this is ${process.platform}. Run programs on Kubernetes, or in a Linux container or machine.`,
    );
  if (!existsSync(file))
    throw new ExecutorUnavailableError(
      `There is no ${file}. Install bubblewrap (Debian, Ubuntu: apt-get install bubblewrap; Fedora: dnf install bubblewrap), or set isolation: 'none-trusted-code-only'.`,
    );
  const cgroups = findCgroups();
  const filter = seccompFilter();
  const seccomp = filter && join(folder(), 'seccomp.bpf');
  if (filter && seccomp) writeFileSync(seccomp, filter);
  const isRoot = process.getuid?.() === 0;
  const places = new Places({ firstUserId: isRoot ? firstUserId : undefined, cgroups });
  const settings = { bubblewrap: { file, etc: join(folder(), 'etc'), seccomp, jobs: false }, killAfterMs, pipes };
  let status: string;
  try {
    status = await tryOut(folder(), places, settings);
  } catch (error) {
    places.close();
    throw error;
  }
  const onlyListed = onlyListedCalls(status);
  const details = {
    namespaces: true,
    seccomp: /^Seccomp:\s+2$/m.test(status),
    onlyListedCalls: onlyListed ?? false,
    noNewPrivileges: /^NoNewPrivs:\s+1$/m.test(status),
    noCapabilities: /^CapEff:\s+0+$/m.test(status),
    onlyOwnDescriptors: !/^open /m.test(status),
    cgroups: cgroups?.version ?? false,
    ownUser: isRoot,
  };
  for (const [what, there] of Object.entries({
    'a seccomp filter': details.seccomp || !filter,
    'a limit to the listed system calls': onlyListed !== false || !filter,
    'no new privileges': details.noNewPrivileges,
    'no capabilities': details.noCapabilities,
  }))
    if (!there)
      throw new ExecutorUnavailableError(
        `bubblewrap started a program without ${what}, although that was requested. Its version may be too old; 0.5 is needed.`,
      );
  if (!details.onlyOwnDescriptors)
    throw new ExecutorUnavailableError(
      `A program in the sandbox has file descriptors of this process: ${[...status.matchAll(/^open (.*)$/gm)].map(([, one]) => one).join(', ')}. Start this process without them.`,
    );
  const parts = [
    'namespaces',
    ...(details.seccomp ? ['seccomp'] : []),
    details.cgroups ? `cgroups ${details.cgroups}` : 'no cgroups (limits per process)',
    isRoot ? 'a user per slot' : 'one user',
  ];
  return {
    isolation: { summary: `bubblewrap: ${parts.join(', ')}`, details },
    places,
    settings: { ...settings, bubblewrap: { ...settings.bubblewrap, jobs: tellsJobs(status) } },
  };
}

/** Starts a program in a sandbox, and returns its /proc/self/status, which shows the isolation that the kernel applies, its open descriptors, and how
 * the kernel answers some system calls. */
async function tryOut(base: string, places: Places, settings: LaunchSettings & { readonly bubblewrap: Bubblewrap }): Promise<string> {
  const language: Language = { name: 'probe', template: {}, main: '', image: 'none', requires: [] };
  const spec: ExecutionSpec = {
    runId: `probe-${process.pid}`,
    attempt: 0,
    jobUid: 'probe',
    taskId: '',
    actor: '',
    language,
    command: ['/bin/sh', '-c', `cat /proc/self/status; ${listOpen}; ${runCalls}; ${tryJobs}`],
    limits: { ...defaultRunLimits, timeoutMs: 10_000 },
    files: [],
    dataSets: [],
  };
  const folder = join(base, `${spec.runId}-${spec.attempt}`);
  mkdirSync(folder, { mode: 0o700, recursive: true });
  const programs = Object.entries(callPrograms()).map(([path, program]) => ({ path, open: async () => program }));
  await materialise(join(folder, 'code'), programs);
  const place = places.take();
  if (place.user !== undefined) chownSync(folder, place.user, place.user);
  let run: SandboxRun | undefined;
  let text = '';
  try {
    run = new SandboxRun(launchOf(spec, folder, place, settings));
    for await (const { bytes } of run.logs(AbortSignal.timeout(15_000))) text += Buffer.from(bytes).toString();
  } catch {
    // The ending and the text below tell what went wrong.
  } finally {
    await run?.remove();
    await rm(folder, { recursive: true, force: true });
    places.giveBack(place);
  }
  if (run?.ending?.state !== 3) {
    const { file } = settings.bubblewrap;
    const version = spawnSync(file, ['--version'], { encoding: 'utf8' }).stdout?.trim();
    throw new ExecutorUnavailableError(
      `No sandbox can be made here (${version || file}): ${(text || run?.ending?.message || 'it did not answer').trim().slice(0, 500)}. Unprivileged user namespaces may be switched off (sysctl kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns), or forbidden by the container that this runs in.`,
    );
  }
  return text;
}
