import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ExecutorUnavailableError } from '../errors.ts';
import type { ExecutionRef, ExecutionSpec, Executor, Isolation, LogPiece, OutputFile } from '../executor/executor.ts';
import type { Observed } from '../runs/decide.ts';
import { makeEtc } from './bubblewrap.ts';
import { launchOf } from './launch.ts';
import { materialise } from './materialise.ts';
import { probe, type Ready } from './probe.ts';
import { SandboxRun } from './sandbox-run.ts';

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

/** Runs programs on this machine, each in a sandbox of its own that ends with this process. */
export function localSandbox(options: LocalSandboxOptions = {}): Executor {
  return new LocalSandbox(options);
}

class LocalSandbox implements Executor {
  readonly name = 'local sandbox';
  readonly scope = 'process';
  readonly #options: LocalSandboxOptions;
  readonly #runs = new Map<string, { readonly run: SandboxRun; readonly folder: string; readonly leave: () => void }>();
  readonly #starting = new Set<Promise<void>>();
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
    if (this.#closed) throw new ExecutorUnavailableError('The local sandbox was closed; nothing is started any more.');
    const starting = this.#start(spec).finally(() => this.#starting.delete(starting));
    this.#starting.add(starting);
    await starting;
  }

  async #start(spec: ExecutionSpec): Promise<void> {
    const { places, settings } = await this.#probed();
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
    const place = places.take();
    place.cgroup?.limit({
      memoryBytes: spec.limits.memoryBytes + (spec.language.memoryOverheadBytes ?? 0),
      // The sandbox's own three, besides the program's.
      processes: spec.limits.processes + 3,
      cpus: spec.limits.cpus,
    });
    this.#runs.set(key, { run: new SandboxRun(launchOf(spec, folder, place, settings)), folder, leave: () => places.giveBack(place) });
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
    await Promise.allSettled([...this.#starting]);
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

function keyOf({ runId, attempt }: ExecutionRef): string {
  return `${runId}-${attempt}`;
}
