import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';

const main = join(import.meta.dirname, 'main.ts');

/** A child process of this program. It is restarted when it ends by itself, and ends with its parent. */
export class Child {
  readonly #args: readonly string[];
  readonly #env: NodeJS.ProcessEnv;
  readonly #heard: (message: unknown) => void;
  #process: ChildProcess | undefined;
  #again: NodeJS.Timeout | undefined;
  #stopping = false;

  constructor(args: readonly string[], env: NodeJS.ProcessEnv, heard: (message: unknown) => void = () => undefined) {
    this.#args = args;
    this.#env = env;
    this.#heard = heard;
    this.#start();
  }

  /** Kills the process, as a power cut would. */
  kill(): void {
    this.#process?.kill('SIGKILL');
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    clearTimeout(this.#again);
    const child = this.#process;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill('SIGTERM');
    await exited;
  }

  #start(): void {
    const child = fork(main, this.#args, { env: { ...process.env, ...this.#env }, stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
    this.#process = child;
    child.on('message', this.#heard);
    child.on('exit', () => {
      if (this.#stopping) return;
      this.#again = setTimeout(() => this.#start(), 1_000);
    });
  }
}
