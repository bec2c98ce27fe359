import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

const everyMs = 20_000;

/** A command of the set-up that runs once per machine or checkout and takes long. */
export interface SetUpStep {
  /** What it does, in the present participle. */
  readonly what: string;
  /** How long it takes on two cores, in words. */
  readonly takes: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
  /** When it is given up, in ms. Default: never, since a package manager that is ended in mid-work leaves a mess. */
  readonly limitMs?: number;
}

/** Runs it, and says every 20 seconds how far it is, by the last line that it wrote. Throws with its last lines. */
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
  const progress = setInterval(() => log(`  ${seconds()}: ${last.at(-1) ?? 'nothing said yet'}`), everyMs);
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
        resolve('was given up');
      }, step.limitMs);
    });
    if (end !== '') throw new Error(`${step.command} ${step.args.join(' ')} ${end} after ${seconds()}: ${last.join(' | ')}`);
  } finally {
    clearInterval(progress);
    clearTimeout(limit);
  }
  if (performance.now() - started > everyMs) log(`  done after ${seconds()}`);
}
