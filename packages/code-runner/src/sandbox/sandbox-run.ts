import type { ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { constants } from 'node:os';
import type { Writable } from 'node:stream';
import { monotonicMs, startTimer, type Timer } from '@holdfast/core';
import { endingOf, exitOf, failed, overLimit, wasSignalled } from '../executor/endings.ts';
import type { ExecutionRef, LogPiece, OutputFile } from '../executor/executor.ts';
import { terminated } from '../runs/decide.ts';
import type { Ending, Usage } from '../runs/states.ts';
import { fileBytes, fullFolder } from './file-systems.ts';
import type { Launch } from './launch.ts';
import { leftFiles } from './left-files.ts';
import { OutputStream } from './output-stream.ts';
import { isAlive, processTree, signal } from './process-tree.ts';
import { processorTime } from './processor-time.ts';
import { type StartedProcess, startProcess } from './start-process.ts';

type Because = 'TIMEOUT' | 'OUTPUT_LIMIT' | 'STOP';

/** How long to kill the processes of a run one by one before the whole sandbox is killed. */
const killMs = 3_000;

/** One program in its sandbox, from start to removal. */
export class SandboxRun {
  readonly ref: ExecutionRef;
  readonly #launch: Launch;
  readonly #process: StartedProcess;
  readonly #child: ChildProcess;
  readonly #streams: { readonly name: 'stdout' | 'stderr'; readonly output: OutputStream }[];
  readonly #changes = new Set<() => void>();
  readonly #before: { readonly oomKills: number; readonly forks: number };
  readonly #timer: Timer;
  /** Commands for the supervisor. */
  readonly #commands: Writable;
  /** Process 1 of the sandbox. */
  #init: number | undefined;
  #because: Because | undefined;
  #ending: Ending | undefined;
  #killing: Timer | undefined;
  #exited = false;
  #reported = '';
  #stage: 'compile' | 'run' | undefined;
  /** Resolves when the supervisor has exited. */
  readonly exited: Promise<void>;
  #position = 0;
  #begunMs: number | undefined;

  constructor(launch: Launch) {
    const { cgroup, limits } = launch;
    this.ref = launch.ref;
    this.#launch = launch;
    this.#before = cgroup?.refusals() ?? { oomKills: 0, forks: 0 };
    this.#process = startProcess(launch);
    const { child, status, block, reports, commands } = this.#process;
    this.#child = child;
    this.#commands = commands;
    const changed = (): void => this.#notify();
    this.#streams = [
      { name: 'stdout', output: new OutputStream(this.#process.stdout, changed) },
      { name: 'stderr', output: new OutputStream(this.#process.stderr, changed) },
    ];
    this.exited = new Promise((resolve) => {
      child.on('error', (error) => {
        this.#exited = true;
        this.#end({ state: 4, reason: 'INTERNAL', message: `The sandbox could not be started: ${error.message}.` });
        resolve();
      });
      child.on('exit', (code, name) => {
        this.#exited = true;
        this.#supervisorExited(code, name);
        resolve();
      });
    });
    if (launch.wrapped) {
      let text = '';
      status.on('data', (data: Buffer) => {
        text += data;
        if (this.#init !== undefined) return;
        const pid = /"child-pid": (\d+)/.exec(text)?.[1];
        if (pid === undefined) return;
        this.#init = Number(pid);
        void this.#applyLimits().then((applied) => {
          if (!applied) return;
          this.#begunMs = monotonicMs();
          this.#commands.write('go\n');
          block.end('go');
        });
      });
    } else {
      status.resume();
      block.end();
      this.#begunMs = monotonicMs();
      commands.write('go\n');
      this.#init = child.pid;
    }
    reports.on('data', (data: Buffer) => this.#onReport(String(data)));
    this.#timer = startTimer(limits.timeoutMs, () => this.stop(launch.killAfterMs, 'TIMEOUT'));
  }

  get ending(): Ending | undefined {
    return this.#ending;
  }

  /** Resolves at the next change. */
  change(abort: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        this.#changes.delete(done);
        abort.removeEventListener('abort', done);
        resolve();
      };
      this.#changes.add(done);
      abort.addEventListener('abort', done, { once: true });
      if (abort.aborted) done();
    });
  }

  /** Yields the output of the program until its end. */
  async *logs(abort: AbortSignal): AsyncGenerator<LogPiece> {
    for (;;) {
      abort.throwIfAborted();
      let any = false;
      for (const { name, output } of this.#streams) {
        const bytes = output.take();
        if (!bytes) continue;
        any = true;
        this.#position += bytes.length;
        yield { stream: name, bytes, position: String(this.#position) };
      }
      if (any) continue;
      if (this.#streams.every(({ output }) => output.ended)) return;
      await this.change(abort);
    }
  }

  /** Sends SIGTERM to the program, as a container's first process gets it, and SIGKILL to all its processes after `graceMs`. */
  stop(graceMs: number, because: Because): void {
    if (this.#ending || this.#exited) return;
    this.#because ??= because;
    if (graceMs > 0) {
      this.#terminate();
      this.#killing ??= startTimer(graceMs, () => void this.#kill());
    } else {
      this.#killing?.clear();
      void this.#kill();
    }
  }

  /** Sends SIGTERM to the program, as soon as it exists: its sandbox may still be in the making. */
  #terminate(): void {
    const main = this.#main();
    if (main !== undefined) signal(main, 'SIGTERM');
    else if (!this.#ending && !this.#exited) setTimeout(() => this.#terminate(), 20).unref();
  }

  /** Yields the files in `/out`. No process of the program runs any more, so the files can't change while they are read. */
  async *output(): AsyncGenerator<OutputFile> {
    const root = this.#launch.out ?? this.#inside('/out');
    if (root === undefined || (this.#exited && this.#launch.out === undefined)) return;
    yield* leftFiles(root);
  }

  /** Ends the sandbox with everything in it. */
  async remove(): Promise<void> {
    this.#timer.clear();
    this.#killing?.clear();
    this.#commands.end('bye\n');
    // If bwrap is killed before it has reported its child, the child stays behind for ever.
    for (let waited = 0; this.#init === undefined && !this.#exited && waited < killMs; waited += 5)
      await new Promise((resolve) => setTimeout(resolve, 5));
    if (!this.#exited) {
      if (!this.#launch.wrapped) for (const pid of this.#programs()) signal(pid, 'SIGKILL');
      // When process 1 ends, the kernel kills all processes of its namespace.
      if (this.#init !== undefined) signal(this.#init, 'SIGKILL');
      if (this.#child.pid !== undefined) signal(this.#child.pid, 'SIGKILL');
      await this.exited;
    }
    const { stdout, stderr } = this.#process;
    for (const stream of [stdout, stderr, ...this.#child.stdio]) stream?.destroy();
    this.#end({ state: 4, reason: 'NODE_LOST', message: 'The sandbox was removed.' });
  }

  /** Applies the limits to the sandbox before the program starts. */
  async #applyLimits(): Promise<boolean> {
    const { cgroup } = this.#launch;
    if (!cgroup || this.#init === undefined) return true;
    try {
      await cgroup.add(this.#init);
      return true;
    } catch (error) {
      // A program without its limits must not run.
      this.#end(failed('INTERNAL', `The sandbox's limits could not be set: ${(error as Error).message}. Run it again.`));
      if (this.#child.pid !== undefined) signal(this.#child.pid, 'SIGKILL');
      return false;
    }
  }

  #onReport(text: string): void {
    this.#reported += text;
    const step = /^(compile|run) (\d+)$/m.exec(this.#reported);
    if (step && !this.#ending && this.#stage === undefined) {
      this.#stage = step[1] as 'compile' | 'run';
      void this.#programEnded(Number(step[2]));
    }
  }

  /** The program has ended; processes that it started may still run. */
  async #programEnded(code: number): Promise<void> {
    this.#timer.clear();
    this.#killing?.clear();
    if (!(await this.#killRest())) {
      // A process does not die: kill the whole sandbox. The files in /out are lost with it.
      if (this.#init !== undefined) signal(this.#init, 'SIGKILL');
    }
    const mark = randomBytes(24).toString('hex');
    for (const { output } of this.#streams) output.endAt(mark);
    this.#commands.write(`${mark}\n`);
    this.#end({ ...this.#judge(code), usage: this.#usage() });
  }

  async #kill(): Promise<void> {
    // Repeats until the supervisor reports the end: the program may not have been started yet.
    for (let waited = 0; waited < killMs && !this.#exited; waited += 20) {
      if (!(await this.#killRest()) || this.#stage !== undefined) break;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    if (this.#stage !== undefined) return;
    if (this.#init !== undefined) signal(this.#init, 'SIGKILL');
    if (this.#child.pid !== undefined && !this.#launch.wrapped) signal(this.#child.pid, 'SIGKILL');
  }

  /** Kills all processes but the supervisor. False: some still live. */
  async #killRest(): Promise<boolean> {
    for (let waited = 0; ; waited += 5) {
      const rest = this.#programs();
      if (rest.length === 0) return true;
      for (const pid of rest) signal(pid, 'SIGKILL');
      if (waited > killMs || this.#exited) return false;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  /** Processes of the program, without the supervisor. */
  #programs(): number[] {
    if (this.#init === undefined || this.#exited) return [];
    return processTree(this.#init).slice(1).filter(isAlive);
  }

  /** The program itself: the first child of the supervisor. */
  #main(): number | undefined {
    if (this.#init === undefined || this.#exited) return undefined;
    return processTree(this.#init)[1];
  }

  /** The supervisor has exited: on command, or because something killed it. */
  #supervisorExited(code: number | null, name: NodeJS.Signals | null): void {
    this.#timer.clear();
    this.#killing?.clear();
    if (this.#ending) {
      this.#notify();
      return;
    }
    const { stderr } = this.#process;
    // Output on standard error before the program started is a message of bubblewrap.
    if (this.#init === undefined || (this.#stage === undefined && code === 1 && this.#position === 0 && stderr.readableLength > 0)) {
      const said = String(stderr.read() ?? '');
      if (this.#init === undefined || said.startsWith('bwrap: ')) {
        const message = `The sandbox could not be set up: ${said.trim().slice(0, 500) || `it ended with ${name ?? code}`}.`;
        this.#end({ state: 4, reason: 'INTERNAL', message });
        return;
      }
      stderr.unshift(Buffer.from(said));
    }
    const ended = this.#judge(code === null || code === 0 ? 128 + (constants.signals[name ?? 'SIGKILL'] ?? 9) : code);
    this.#end({ ...ended, usage: this.#usage() });
  }

  #judge(code: number): Ending {
    const { limits, cgroup } = this.#launch;
    if (this.#because === 'OUTPUT_LIMIT') return overLimit.output(limits, code);
    const now = cgroup?.refusals() ?? this.#before;
    const forks =
      now.forks > this.#before.forks ? ` It tried to start more than the ${limits.processes} processes and threads that it may have.` : '';
    if (this.#because === 'TIMEOUT') return overLimit.time(limits, code, forks);
    if (this.#because === 'STOP') return { ...terminated, ...exitOf(code) };
    const full = code === 0 ? undefined : exitOf(code).signal === 'SIGXFSZ' ? 'a file' : fullFolder((path) => this.#inside(path));
    if (full !== undefined) return overLimit.disk(limits, full, code);
    if (code !== 0 && now.oomKills > this.#before.oomKills) {
      const files = fileBytes((path) => this.#inside(path));
      return files > limits.memoryBytes / 2 ? overLimit.filesInMemory(limits, files, code) : overLimit.memory(limits, code);
    }
    if (/^missing$/m.test(this.#reported))
      return endingOf({ code, signalled: false, more: ' There is no such program, or it is not executable.' });
    return endingOf({
      code,
      stage: this.#stage,
      more: forks,
      ...(this.#stage === undefined ? {} : { signalled: wasSignalled(this.#reported, code) }),
    });
  }

  #usage(): Usage {
    const group = this.#launch.cgroup?.usage();
    return {
      cpuMs: group?.cpuMs ?? processorTime(this.#reported),
      wallMs: this.#begunMs === undefined ? null : Math.round(monotonicMs() - this.#begunMs),
      peakMemoryBytes: group?.peakMemoryBytes ?? null,
    };
  }

  /** A path in the sandbox, as seen from outside. */
  #inside(path: string): string | undefined {
    return this.#launch.wrapped && this.#init !== undefined && !this.#exited ? `/proc/${this.#init}/root${path}` : undefined;
  }

  #end(ending: Ending): void {
    this.#ending ??= ending;
    this.#notify();
  }

  #notify(): void {
    for (const change of this.#changes) change();
  }
}
