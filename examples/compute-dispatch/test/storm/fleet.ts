import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { until } from '@holdfast/core/testing';

const main = join(import.meta.dirname, '..', '..', 'src', 'main.ts');

/** A process of the service, which may be killed and started again. */
export class Member {
  readonly #args: readonly string[];
  readonly #env: NodeJS.ProcessEnv;
  readonly #execArgv: readonly string[];
  #child: ChildProcess | undefined;
  /** Where its HTTP face is, while it has one. */
  address: string | undefined;

  constructor(args: readonly string[], env: NodeJS.ProcessEnv, execArgv: readonly string[] = []) {
    this.#args = args;
    this.#env = env;
    this.#execArgv = execArgv;
  }

  /** Starts it, again and again while its servers are away, until it says that it is there. */
  async start(): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      const child = spawn(
        process.execPath,
        ['--conditions=@holdfast/source', '--disable-warning=ExperimentalWarning', ...this.#execArgv, main, ...this.#args],
        {
          stdio: ['ignore', 'pipe', process.env.HOLDFAST_STORM_LOG ? 'inherit' : 'ignore'],
          env: { ...process.env, NO_COLOR: '1', ...this.#env },
        },
      );
      this.#child = child;
      let printed = '';
      child.stdout?.on('data', (data) => {
        printed += data;
      });
      const exited = once(child, 'exit').then(() => 'exited' as const);
      const there = until(() => printed.includes('Ctrl-C ends it'), { withinMs: 60_000, what: 'a process is there' });
      there.catch(() => undefined);
      if ((await Promise.race([there, exited])) !== 'exited') {
        this.address = /http:\/\/[^\s/#]+/.exec(printed)?.[0];
        return;
      }
      if (attempt === 60) throw new Error(`A process does not start: ${printed}`);
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
  }

  async end(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    const child = this.#child;
    this.address = undefined;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill('SIGCONT');
    child.kill(signal);
    // What can't end in good order is ended.
    const late = setTimeout(() => child.kill('SIGKILL'), 20_000);
    await exited;
    clearTimeout(late);
  }

  /** As a machine that hangs, and goes on: longer than its leases it is a zombie. */
  async freeze(ms: number): Promise<void> {
    const child = this.#child;
    child?.kill('SIGSTOP');
    await new Promise((resolve) => setTimeout(resolve, ms));
    child?.kill('SIGCONT');
  }
}
