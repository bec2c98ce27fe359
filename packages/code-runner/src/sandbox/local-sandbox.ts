import { chownSync, existsSync, mkdirSync, rmSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ExecutorUnavailableError } from '../errors.ts';
import type { ExecutionRef, ExecutionSpec, Executor, Isolation, LogPiece, OutputFile } from '../executor/executor.ts';
import type { Observed } from '../runs/decide.ts';
import { makeEtc } from './bubblewrap.ts';
import { launchOf } from './launch.ts';
import { materialise } from './materialise.ts';
import { makeOwnFolder } from './own-folder.ts';
import type { Place } from './places.ts';
import { probe, type Ready } from './probe.ts';
import { SandboxRun } from './sandbox-run.ts';

/** Options of {@link localSandbox}. */
export interface LocalSandboxOptions {
  /** Path of bubblewrap. Default `/usr/bin/bwrap`. */
  readonly bubblewrap?: string;
  /** Folder below which the files of runs are written, and removed with the run. What a killed process left there is removed when the next one
   * starts. Default: the system's temporary folder. */
  readonly folder?: string;
  /**
   * Whether a sandbox is required. Default `required`: without bubblewrap nothing is started. `none-trusted-code-only` runs programs as
   * plain processes of this user, with this machine's files and network. Use it only for your own programs on your own machine.
   */
  readonly isolation?: 'required' | 'none-trusted-code-only';
  /**
   * First of the user ids that programs run as, one per concurrent run, if this process is root. No account may have one of them.
   * Default 61,184.
   */
  readonly firstUserId?: number;
  /** How long a program may take to end after its time limit, in ms. Then it is killed. Default 2,000. */
  readonly killAfterMs?: number;
}

/** Creates an executor that runs each program in its own sandbox on this machine. Programs end with this process. */
export function localSandbox(options: LocalSandboxOptions = {}): Executor {
  return new LocalSandbox(options);
}

class LocalSandbox implements Executor {
  readonly name = 'local sandbox';
  readonly scope = 'process';
  readonly #options: LocalSandboxOptions;
  readonly #runs = new Map<string, { readonly run: SandboxRun; readonly folder: string; readonly leave: () => void }>();
  readonly #starting = new Map<string, Promise<void>>();
  #closed = false;
  #folder: string | undefined;
  #ready: Promise<Ready> | undefined;

  constructor(options: LocalSandboxOptions) {
    this.#options = options;
  }

  async probe(): Promise<Isolation> {
    return (await this.#probed()).isolation;
  }

  async start(spec: ExecutionSpec): Promise<void> {
    if (this.#closed) throw new ExecutorUnavailableError('The local sandbox was closed; it starts no more programs.');
    const key = keyOf(spec);
    // A second start of the same execution, while its files are still being written, waits for the first.
    const starting = this.#starting.get(key) ?? this.#start(spec, key).finally(() => this.#starting.delete(key));
    this.#starting.set(key, starting);
    await starting;
  }

  async #start(spec: ExecutionSpec, key: string): Promise<void> {
    const { places, settings } = await this.#probed();
    if (this.#runs.has(key)) return;
    for (const file of spec.language.requires)
      if (!existsSync(file))
        throw new ExecutorUnavailableError(
          `${spec.language.title ?? spec.language.name} is not installed on this machine: ${file} does not exist. Tell whoever operates this service.`,
        );
    const folder = join(this.#base(), key);
    let place: Place | undefined;
    let run: SandboxRun | undefined;
    try {
      mkdirSync(folder, { mode: 0o700, recursive: true });
      await materialise(join(folder, 'code'), spec.files);
      if (spec.dataSets.length > 0) await materialise(join(folder, 'data'), spec.dataSets);
      const taken = places.take();
      place = taken;
      if (taken.user !== undefined) chownSync(folder, taken.user, taken.user);
      taken.cgroup?.limit({
        memoryBytes: spec.limits.memoryBytes + (spec.language.memoryOverheadBytes ?? 0),
        // Three processes of the sandbox itself.
        processes: spec.limits.processes + 3,
        cpus: spec.limits.cpus,
      });
      run = new SandboxRun(launchOf(spec, folder, taken, settings));
      this.#runs.set(key, { run, folder, leave: () => places.giveBack(taken) });
    } finally {
      // Nothing was started: nobody will remove it.
      if (!run) {
        if (place) places.discard(place);
        await rm(folder, { recursive: true, force: true });
      }
    }
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
    // Another call may have removed it meanwhile.
    if (!this.#runs.delete(key)) return;
    found.leave();
  }

  async list(): Promise<readonly (Observed & ExecutionRef)[]> {
    return [...this.#runs.values()].map(({ run }) => ({
      ...run.ref,
      status: run.ending ? { is: 'ended' as const, ending: run.ending } : { is: 'running' as const },
    }));
  }

  async close(): Promise<void> {
    this.#closed = true;
    await Promise.allSettled(this.#starting.values());
    await Promise.all([...this.#runs.values()].map(({ run }) => this.remove(run.ref)));
    const ready = await this.#ready?.catch(() => undefined);
    ready?.places.close();
    if (this.#folder !== undefined) rmSync(this.#folder, { recursive: true, force: true });
    this.#folder = undefined;
    this.#ready = undefined;
  }

  #probed(): Promise<Ready> {
    const { bubblewrap, isolation, firstUserId, killAfterMs } = this.#options;
    this.#ready ??= probe({
      file: bubblewrap ?? '/usr/bin/bwrap',
      trusted: isolation === 'none-trusted-code-only',
      folder: () => this.#base(),
      firstUserId: firstUserId ?? 61_184,
      killAfterMs: killAfterMs ?? 2_000,
    }).catch((error) => {
      this.#ready = undefined;
      throw error;
    });
    return this.#ready;
  }

  /** The folder of this process. */
  #base(): string {
    if (this.#folder !== undefined) return this.#folder;
    this.#folder = makeOwnFolder(this.#options.folder ?? tmpdir(), process.getuid?.() === 0);
    mkdirSync(join(this.#folder, 'etc'));
    makeEtc(join(this.#folder, 'etc'));
    return this.#folder;
  }
}

function keyOf({ runId, attempt }: ExecutionRef): string {
  return `${runId}-${attempt}`;
}
