import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { setCheckpointHook } from '../observe/checkpoint.ts';
import { wait } from '../time/wait.ts';

/** A process that a test kills, freezes and starts again. */
export interface Victim {
  /** Its standard output so far. */
  output(): string;
  /** True if it has not ended. */
  readonly alive: boolean;
  /** Resolves with its exit code or signal once it has ended. */
  readonly ended: Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null }>;
  /** Writes a line to its standard input. */
  say(line: string): void;
  /** Stops it, or lets it continue. */
  signal(name: 'SIGSTOP' | 'SIGCONT'): void;
  /** Stops it for `ms`, like a machine that hangs. If that is longer than its lease, it continues as a zombie. */
  freeze(ms: number): Promise<void>;
  /** Ends it, and waits until it has ended. A process that is stopped continues first. A process that takes over 20 s to end is killed. */
  end(signal: 'SIGTERM' | 'SIGKILL'): Promise<void>;
}

/** Starts processes of one file, and kills those that are left at the end. */
export class Victims {
  readonly #file: string;
  readonly #running = new Set<Victim>();

  constructor(file: string) {
    this.#file = file;
  }

  /** Starts a process. Its standard error is printed. */
  start(...args: readonly (string | number)[]): Victim {
    const child = spawn(
      process.execPath,
      ['--conditions=@holdfast/source', '--disable-warning=ExperimentalWarning', this.#file, ...args.map(String)],
      { stdio: ['pipe', 'pipe', 'inherit'] },
    );
    const victim = new Spawned(child);
    this.#running.add(victim);
    child.on('exit', () => this.#running.delete(victim));
    return victim;
  }

  /** Kills all processes that still run. Call it in `afterEach`. */
  async end(): Promise<void> {
    for (const victim of [...this.#running]) await victim.end('SIGKILL');
  }
}

class Spawned implements Victim {
  readonly #child: ChildProcess;
  #output = '';
  readonly ended: Victim['ended'];

  constructor(child: ChildProcess) {
    this.#child = child;
    child.stdout?.on('data', (data) => {
      this.#output += data;
    });
    // The process may end before it reads.
    child.stdin?.on('error', () => undefined);
    this.ended = once(child, 'exit').then(([code, signal]) => ({ code, signal }));
  }

  get alive(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  output(): string {
    return this.#output;
  }

  say(line: string): void {
    this.#child.stdin?.write(`${line}\n`);
  }

  signal(name: 'SIGSTOP' | 'SIGCONT'): void {
    if (this.alive) this.#child.kill(name);
  }

  async freeze(ms: number): Promise<void> {
    this.signal('SIGSTOP');
    try {
      await wait(ms);
    } finally {
      this.signal('SIGCONT');
    }
  }

  async end(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    if (!this.alive) return;
    this.#child.kill('SIGCONT');
    this.#child.kill(signal);
    const late = setTimeout(() => this.#child.kill('SIGKILL'), 20_000);
    await this.ended;
    clearTimeout(late);
  }
}

/** Call it in a victim: kills this process by SIGKILL when it passes the checkpoint for the `hits`-th time. Does nothing without a name. */
export function dieAtCheckpoint(name: string | undefined, hits: number | string = 1): void {
  let left = Number(hits);
  if (name)
    setCheckpointHook((passed) => {
      if (passed === name && --left === 0) process.kill(process.pid, 'SIGKILL');
    });
}
