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
  /** When it is given up, in ms. Default: 15 minutes. */
  readonly limitMs?: number;
}

/** Runs it, and says every 20 seconds how far it is, by the last line that it wrote. Throws with its last lines. */
export async function setUp(log: (line: string) => void, step: SetUpStep): Promise<void> {
  log(`${step.what} (once, ${step.takes})`);
  const started = performance.now();
  const seconds = (): string => `${Math.round((performance.now() - started) / 1_000)} s`;
  const child = spawn(step.command, step.args, {
    env: step.env ?? process.env,
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: step.limitMs ?? 900_000,
  });
  let last: string[] = [];
  for (const stream of [child.stdout, child.stderr])
    createInterface(stream).on('line', (line) => {
      if (line.trim() !== '') last = [...last.slice(-2), line.trim().slice(0, 200)];
    });
  const progress = setInterval(() => log(`  ${seconds()}: ${last.at(-1) ?? 'nothing said yet'}`), everyMs);
  try {
    const code = await new Promise<number | string>((resolve, reject) => {
      child.on('error', reject);
      child.on('close', (exit, signal) => resolve(exit ?? signal ?? 'no exit code'));
    });
    if (code !== 0) throw new Error(`${step.command} ${step.args.join(' ')} ended with ${code} after ${seconds()}: ${last.join(' | ')}`);
  } finally {
    clearInterval(progress);
  }
  if (performance.now() - started > everyMs) log(`  done after ${seconds()}`);
}
