import { spawnSync } from 'node:child_process';
import { chmodSync, createWriteStream, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { ExecutorUnavailableError } from '../errors.ts';
import type { ExecutionRef, ExecutionSpec, Executor, Isolation, LogPiece, OutputFile } from '../executor/executor.ts';
import type { Language } from '../languages/language.ts';
import type { Observed } from '../runs/decide.ts';
import { defaultRunLimits } from '../runs/limits.ts';
import { bubblewrapArguments, makeEtc } from './bubblewrap.ts';
import { type Cgroup, type Cgroups, findCgroups } from './cgroup.ts';
import { type Launch, SandboxRun } from './sandbox-run.ts';
import { seccompFilter } from './seccomp.ts';
import { supervisor } from './supervisor.ts';

/** Where sandboxes are made, and what of this machine they see. */
export interface LocalSandboxOptions {
  /** Default `/usr/bin/bwrap`. */
  readonly bubblewrap?: string;
  /** Where the files of runs are put. Default: a folder of its own in the system's temporary folder. */
  readonly folder?: string;
  /**
   * What may be done without. Default `required`: without bubblewrap nothing is started. `none-trusted-code-only` runs programs as plain
   * processes of this user, with this machine's files and network: for your own programs on your own machine, never for others'.
   */
  readonly isolation?: 'required' | 'none-trusted-code-only';
  /** First of the user ids that programs get, one per slot; used as root only. Default 61,184, of those that no account has. */
  readonly firstUserId?: number;
  /** How long a program may take to end after its time is over. Default 2,000 ms. */
  readonly killAfterMs?: number;
}

interface Place {
  readonly index: number;
  readonly user: number | undefined;
  readonly cgroup: Cgroup | undefined;
}

/** Runs programs on this machine, each in a sandbox of its own that ends with this process. */
export function localSandbox(options: LocalSandboxOptions = {}): Executor {
  return new LocalSandbox(options);
}

class LocalSandbox implements Executor {
  readonly name = 'local sandbox';
  readonly scope = 'process';
  readonly #options: LocalSandboxOptions;
  readonly #bubblewrap: string;
  readonly #trusted: boolean;
  readonly #runs = new Map<string, { readonly run: SandboxRun; readonly place: Place; readonly folder: string }>();
  readonly #places: Place[] = [];
  readonly #free: Place[] = [];
  readonly #starting = new Set<Promise<void>>();
  #closed = false;
  #cgroups: Cgroups | undefined;
  #folder: string | undefined;
  #seccomp: string | undefined;
  #isolation: Promise<Isolation> | undefined;

  constructor(options: LocalSandboxOptions) {
    this.#options = options;
    this.#bubblewrap = options.bubblewrap ?? '/usr/bin/bwrap';
    this.#trusted = options.isolation === 'none-trusted-code-only';
  }

  probe(): Promise<Isolation> {
    this.#isolation ??= this.#probe().catch((error) => {
      this.#isolation = undefined;
      throw error;
    });
    return this.#isolation;
  }

  async start(spec: ExecutionSpec): Promise<void> {
    if (this.#closed) throw new ExecutorUnavailableError('The local sandbox was closed; nothing is started any more.');
    const starting = this.#start(spec).finally(() => this.#starting.delete(starting));
    this.#starting.add(starting);
    await starting;
  }

  async #start(spec: ExecutionSpec): Promise<void> {
    await this.probe();
    const key = keyOf(spec);
    if (this.#runs.has(key)) return;
    for (const file of spec.language.requires)
      if (!existsSync(file))
        throw new ExecutorUnavailableError(
          `${spec.language.title ?? spec.language.name} is not installed on this machine: there is no ${file}. Tell whoever operates this service.`,
        );
    const folder = join(this.#base(), key);
    await materialise(join(folder, 'code'), spec.files);
    if (spec.dataSets.length > 0) await materialise(join(folder, 'data'), spec.dataSets);
    const place = this.#place();
    place.cgroup?.limit({
      memoryBytes: spec.limits.memoryBytes + (spec.language.memoryOverheadBytes ?? 0),
      // The sandbox's own three, besides the program's.
      processes: spec.limits.processes + 3,
      cpus: spec.limits.cpus,
    });
    this.#runs.set(key, { run: new SandboxRun(this.#launch(spec, folder, place)), place, folder });
  }

  async *observe(ref: ExecutionRef, { signal }: { readonly signal: AbortSignal }): AsyncGenerator<Observed | undefined> {
    const { run } = this.#runs.get(keyOf(ref)) ?? {};
    if (!run) {
      yield undefined;
      return;
    }
    const observed = { runId: ref.runId, attempt: ref.attempt };
    if (!run.ending) yield { ...observed, status: { is: 'running' } };
    while (!run.ending) {
      await run.change(signal);
      signal.throwIfAborted();
    }
    yield { ...observed, status: { is: 'ended', ending: run.ending } };
  }

  async *logs(ref: ExecutionRef, { signal }: { readonly signal: AbortSignal }): AsyncGenerator<LogPiece> {
    const { run } = this.#runs.get(keyOf(ref)) ?? {};
    if (run) yield* run.logs(signal);
  }

  async *output(ref: ExecutionRef): AsyncGenerator<OutputFile> {
    const { run } = this.#runs.get(keyOf(ref)) ?? {};
    if (run) yield* run.output();
  }

  async stop(ref: ExecutionRef, { graceMs, because }: { readonly graceMs: number; readonly because?: 'OUTPUT_LIMIT' }): Promise<void> {
    this.#runs.get(keyOf(ref))?.run.stop(graceMs, because ?? 'STOP');
  }

  async remove(ref: ExecutionRef): Promise<void> {
    const key = keyOf(ref);
    const found = this.#runs.get(key);
    if (!found) return;
    await found.run.remove();
    await rm(found.folder, { recursive: true, force: true });
    // Two may have come for it.
    if (!this.#runs.delete(key)) return;
    this.#free.push(found.place);
  }

  async list(): Promise<readonly (Observed & ExecutionRef)[]> {
    return [...this.#runs.values()].map(({ run }) => ({
      ...run.ref,
      status: run.ending ? { is: 'ended' as const, ending: run.ending } : { is: 'running' as const },
    }));
  }

  async close(): Promise<void> {
    this.#closed = true;
    await Promise.allSettled([...this.#starting]);
    await Promise.all([...this.#runs.values()].map(({ run }) => this.remove(run.ref)));
    for (const { cgroup } of this.#places) cgroup?.remove();
    this.#places.length = 0;
    this.#free.length = 0;
    if (this.#folder !== undefined) rmSync(this.#folder, { recursive: true, force: true });
    this.#folder = undefined;
    this.#isolation = undefined;
  }

  #launch(spec: ExecutionSpec, folder: string, place: Place): Launch {
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
    };
    // Address space is more than what is used of it, of a virtual machine much more.
    const addressBytes = limits.memoryBytes + 4 * (language.memoryOverheadBytes ?? 0) + 64 * 2 ** 20;
    const uncounted = { processes: limits.processes + 3, addressBytes };
    const program = supervisor(
      { fileBytes: limits.diskBytes, uncounted: place.cgroup ? undefined : uncounted },
      language.compile,
      spec.command,
    );
    const common = {
      ref: { runId: spec.runId, attempt: spec.attempt, jobUid: spec.jobUid },
      user: place.user,
      limits,
      cgroup: place.cgroup,
      killAfterMs: this.#options.killAfterMs ?? 2_000,
    };
    if (this.#trusted) return { ...common, ...this.#plain(folder, program, environment) };
    const data = spec.dataSets.length > 0 ? join(folder, 'data') : undefined;
    const fds = { status: 3, block: 4, seccomp: this.#seccomp === undefined ? undefined : 5 };
    const args = bubblewrapArguments({
      code: join(folder, 'code'),
      data,
      etc: join(this.#base(), 'etc'),
      environment,
      diskBytes: limits.diskBytes,
      fds,
    });
    return {
      ...common,
      file: this.#bubblewrap,
      args: [...args, ...program],
      environment: {},
      cwd: '/',
      seccomp: this.#seccomp,
      wrapped: true,
      out: undefined,
    };
  }

  /** Without a sandbox: the folders of one, as plain folders, by their names in what is run. */
  #plain(
    folder: string,
    program: readonly string[],
    environment: Readonly<Record<string, string>>,
  ): Pick<Launch, 'file' | 'args' | 'environment' | 'cwd' | 'seccomp' | 'wrapped' | 'out'> {
    for (const name of ['code', 'data', 'scratch', 'tmp', 'out']) mkdirSync(join(folder, name), { recursive: true });
    const here = (text: string): string =>
      text.replaceAll(/(?<![\w./-])\/(code|data|scratch|tmp|out)(?![\w-])/g, (_, name: string) => join(folder, name));
    const [file = '', ...args] = program;
    return {
      file,
      args: args.map(here),
      environment: {
        ...Object.fromEntries(Object.entries(environment).map(([name, value]) => [name, here(value)])),
        PATH: process.env.PATH ?? '',
      },
      cwd: join(folder, 'code'),
      seccomp: undefined,
      wrapped: false,
      out: join(folder, 'out'),
    };
  }

  async #probe(): Promise<Isolation> {
    if (this.#trusted) {
      return {
        summary: 'none: programs are plain processes of this user',
        details: { namespaces: false, seccomp: false, cgroups: false, ownUser: false },
      };
    }
    if (process.platform !== 'linux')
      throw new ExecutorUnavailableError(
        `The local sandbox needs Linux; this is ${process.platform}. Run programs on Kubernetes, or in a Linux container or machine.`,
      );
    if (!existsSync(this.#bubblewrap))
      throw new ExecutorUnavailableError(
        `There is no ${this.#bubblewrap}. Install bubblewrap (Debian, Ubuntu: apt-get install bubblewrap; Fedora: dnf install bubblewrap), or say isolation: 'none-trusted-code-only'.`,
      );
    this.#cgroups = findCgroups();
    const filter = seccompFilter();
    if (filter) {
      this.#seccomp = join(this.#base(), 'seccomp.bpf');
      writeFileSync(this.#seccomp, filter);
    }
    const status = await this.#tryOut();
    const isRoot = process.getuid?.() === 0;
    const details = {
      namespaces: true,
      seccomp: /^Seccomp:\s+2$/m.test(status),
      noNewPrivileges: /^NoNewPrivs:\s+1$/m.test(status),
      noCapabilities: /^CapEff:\s+0+$/m.test(status),
      cgroups: this.#cgroups?.version ?? false,
      ownUser: isRoot,
    };
    for (const [what, there] of Object.entries({
      'a seccomp filter': details.seccomp || !filter,
      'no new privileges': details.noNewPrivileges,
      'no capabilities': details.noCapabilities,
    }))
      if (!there)
        throw new ExecutorUnavailableError(
          `bubblewrap started a program without ${what}, which it was asked for. Its version may be too old; 0.5 is needed.`,
        );
    const parts = [
      'namespaces',
      ...(details.seccomp ? ['seccomp'] : []),
      details.cgroups ? `cgroups ${details.cgroups}` : 'no cgroups (limits per process)',
      isRoot ? 'a user per slot' : 'one user',
    ];
    return { summary: `bubblewrap: ${parts.join(', ')}`, details };
  }

  /** Starts a program for real, and returns what the kernel says of it. */
  async #tryOut(): Promise<string> {
    const language: Language = { name: 'probe', template: {}, main: '', image: 'none', requires: [] };
    const spec: ExecutionSpec = {
      runId: `probe-${process.pid}`,
      attempt: 0,
      jobUid: 'probe',
      taskId: '',
      actor: '',
      language,
      command: ['/bin/cat', '/proc/self/status'],
      limits: { ...defaultRunLimits, timeoutMs: 10_000 },
      files: [],
      dataSets: [],
    };
    const folder = join(this.#base(), keyOf(spec));
    await materialise(join(folder, 'code'), []);
    const place = this.#place();
    const run = new SandboxRun(this.#launch(spec, folder, place));
    let text = '';
    try {
      for await (const { bytes } of run.logs(AbortSignal.timeout(15_000))) text += Buffer.from(bytes).toString();
    } catch {
      // Judged by what it said.
    } finally {
      await run.remove();
      await rm(folder, { recursive: true, force: true });
      this.#free.push(place);
    }
    if (run.ending?.state !== 3) {
      const version = spawnSync(this.#bubblewrap, ['--version'], { encoding: 'utf8' }).stdout?.trim();
      throw new ExecutorUnavailableError(
        `No sandbox can be made here (${version || this.#bubblewrap}): ${(text || run.ending?.message || 'it did not answer').trim().slice(0, 500)}. Unprivileged user namespaces may be switched off (sysctl kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns), or forbidden by the container that this runs in.`,
      );
    }
    return text;
  }

  #place(): Place {
    const free = this.#free.shift();
    if (free) return free;
    const index = this.#places.length;
    const place: Place = {
      index,
      user: process.getuid?.() === 0 && !this.#trusted ? (this.#options.firstUserId ?? 61_184) + index : undefined,
      cgroup: this.#trusted ? undefined : this.#cgroups?.create(`${process.pid}-${index}`),
    };
    this.#places.push(place);
    return place;
  }

  /** The folder of this process. Others may pass through it, not look around: bubblewrap binds what is in it as another user. */
  #base(): string {
    if (this.#folder !== undefined) return this.#folder;
    mkdirSync(this.#options.folder ?? tmpdir(), { recursive: true });
    this.#folder = mkdtempSync(join(this.#options.folder ?? tmpdir(), 'holdfast-sandbox-'));
    chmodSync(this.#folder, 0o711);
    mkdirSync(join(this.#folder, 'etc'));
    makeEtc(join(this.#folder, 'etc'));
    return this.#folder;
  }
}

/** Writes the files of a run, for all to read and nobody to write. What is in memory is written at once: no thread need be woken. */
async function materialise(
  folder: string,
  files: readonly { readonly path: string; readonly open: () => Promise<Readable | Uint8Array> }[],
): Promise<void> {
  mkdirSync(folder, { recursive: true, mode: 0o755 });
  const made = new Set([folder]);
  for (const { path, open } of files) {
    const target = join(folder, path);
    const parent = dirname(target);
    if (!made.has(parent)) mkdirSync(parent, { recursive: true, mode: 0o755 });
    made.add(parent);
    const content = await open();
    if (content instanceof Uint8Array) writeFileSync(target, content, { mode: 0o644 });
    else await pipeline(content, createWriteStream(target, { mode: 0o644 }));
  }
}

function keyOf({ runId, attempt }: ExecutionRef): string {
  return `${runId}-${attempt}`;
}
