import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

const everyMs = 20_000;

/** A command of the set-up that runs once per machine or checkout and takes long. */
export interface SetUpStep {
  /** The work, as a present participle: "Building Helm …". */
  readonly what: string;
  /** The time that it takes on two cores, in words. */
  readonly takes: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
  /** The command is stopped after this time, in ms. Default: never, since a package manager that is stopped half-way leaves its database broken. */
  readonly limitMs?: number;
}

/** Runs the step. Every 20 seconds it logs the last line that the command wrote. @throws an Error with the command's last three lines */
export async function setUp(log: (line: string) => void, step: SetUpStep): Promise<void> {
  log(`${step.what} (once, ${step.takes})`);
  const started = performance.now();
  const seconds = (): string => `${Math.round((performance.now() - started) / 1_000)} s`;
  const child = spawn(step.command, step.args, { env: step.env ?? process.env, stdio: ['ignore', 'pipe', 'pipe'] });
  let last: string[] = [];
  for (const stream of [child.stdout, child.stderr])
    createInterface(stream).on('line', (line) => {
      if (line.trim() !== '') last = [...last.slice(-2), line.trim().slice(0, 200)];
    });
  const progress = setInterval(() => log(`  ${seconds()}: ${last.at(-1) ?? 'no output yet'}`), everyMs);
  let limit: NodeJS.Timeout | undefined;
  try {
    const end = await new Promise<string>((resolve, reject) => {
      child.on('error', reject);
      child.on('close', (exit, signal) => resolve(exit === 0 ? '' : `ended with ${exit ?? signal}`));
      if (step.limitMs === undefined) return;
      // Not when the pipes close: a grandchild may hold them for longer.
      limit = setTimeout(() => {
        child.kill('SIGKILL');
        for (const stream of [child.stdout, child.stderr]) stream.destroy();
        resolve(`was stopped at its limit of ${(step.limitMs ?? 0) / 1_000} s`);
      }, step.limitMs);
    });
    if (end !== '') throw new Error(`${step.command} ${step.args.join(' ')} ${end} after ${seconds()}: ${last.join(' | ')}`);
  } finally {
    clearInterval(progress);
    clearTimeout(limit);
  }
  if (performance.now() - started > everyMs) log(`  done after ${seconds()}`);
}

/** Runs a step whose failure is logged and not thrown: a later check finds what is missing. */
export async function attempt(log: (line: string) => void, step: () => Promise<unknown>): Promise<void> {
  try {
    await step();
  } catch (error) {
    log((error as Error).message);
  }
}
