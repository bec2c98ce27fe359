import { existsSync } from 'node:fs';
import { type CodeRunner, codeRunnerSchema, createCodeRunner, python, r, scala } from '@holdfast/code-runner';
import { localSandbox } from '@holdfast/code-runner/sandbox';
import { coreSchema, migrate, silentLogger } from '@holdfast/core';
import { type TestDialect, testDialects } from '@holdfast/core/testing';
import { median, rounds } from '../report/report.ts';
import type { BenchOptions } from '../tasks.ts';
import { bareSandbox } from './bare.ts';

const hello = 'print("hello")\n';
const slots = 4;

/** Runs of small programs against bubblewrap alone: the time until the first output, and runs per second. */
export async function runner(options: BenchOptions): Promise<void> {
  const wanted = (name: string): boolean => options.only === undefined || options.only.has(name);
  for (const dialect of testDialects().filter(({ name }) => name === 'sqlite' || name === 'postgres')) {
    if (wanted(`runner-latency/${dialect.name}`)) await withRunner(dialect, (one) => latency(dialect.name, one, options));
    if (wanted(`runner-throughput/${dialect.name}`)) await withRunner(dialect, (one) => throughput(dialect.name, one, options));
  }
}

async function withRunner(dialect: TestDialect, use: (runner: CodeRunner) => Promise<void>): Promise<void> {
  const db = await dialect.create();
  try {
    await migrate(db.knex, [coreSchema, codeRunnerSchema]);
    await using one = createCodeRunner({
      knex: db.knex,
      executor: localSandbox(),
      languages: [python(), scala(), r()],
      pools: { small: { slots } },
      // Many people share one task, since each person may have one live run of it.
      authorize: () => true,
      logger: silentLogger,
    });
    await one.worker().start();
    await use(one);
  } finally {
    await db.drop();
  }
}

/** The time from the call of submit until a reader gets the first line of the log, in ms. One run at a time. */
async function latency(name: string, one: CodeRunner, options: BenchOptions): Promise<void> {
  const bare = bareSandbox(hello);
  const figures: Record<string, number[]> = { 'bare bubblewrap + python, first byte': [] };
  const tasks: [string, string, number][] = [];
  for (const [language, binary, times] of [
    ['python', '/usr/bin/python3', 30],
    ['r', '/usr/bin/Rscript', 5],
    ['scala', '/usr/bin/scalac', 2],
  ] as const) {
    if (!existsSync(binary)) continue;
    const task = await one.tasks.create({ actor: 'bench', name: language, language });
    tasks.push([language, task.id, times]);
    figures[`submit to first line, ${language}`] = [];
    figures[`submit to end, ${language}`] = [];
  }
  for (let round = 0; round < options.rounds; round++) {
    for (let i = 0; i < 30; i++) figures['bare bubblewrap + python, first byte']?.push(await bare.run());
    for (const [language, taskId, times] of tasks)
      for (let i = 0; i < times; i++) {
        const started = performance.now();
        const run = await one.runs.submit(taskId, { actor: 'bench' });
        let spoke = false;
        for await (const event of one.runs.events(run.id, { actor: 'bench' })) {
          if (event.type !== 'log' || spoke) continue;
          spoke = true;
          figures[`submit to first line, ${language}`]?.push(performance.now() - started);
        }
        figures[`submit to end, ${language}`]?.push(performance.now() - started);
      }
  }
  bare.remove();
  const shown = Object.entries(figures).map(([what, values]) => ({
    what,
    n: values.length,
    p50: quantile(values, 0.5),
    p95: quantile(values, 0.95),
  }));
  if (options.json)
    console.log(
      JSON.stringify({
        bench: `runner-latency/${name}`,
        unit: 'ms: p50 (p95)',
        ...Object.fromEntries(shown.map(({ what, p50, p95 }) => [what, `${p50.toFixed(1)} (${p95.toFixed(1)})`])),
      }),
    );
  else {
    console.log(`\nrunner-latency/${name}  (ms: p50, p95)`);
    for (const { what, n, p50, p95 } of shown)
      console.log(`  ${what.padEnd(40)} ${p50.toFixed(1).padStart(8)} ${p95.toFixed(1).padStart(8)}   n=${n}`);
  }
}

/** Hello-world runs per second, four at a time. Only ours are queued, limited, logged and stored. */
async function throughput(name: string, one: CodeRunner, options: BenchOptions): Promise<void> {
  const bare = bareSandbox(hello);
  const task = await one.tasks.create({ actor: 'bench', name: 'hello', language: 'python', files: { 'run.py': hello }, main: 'run.py' });
  const runs = 200;
  let person = 0;
  const ours = async (): Promise<number> => {
    let left = runs;
    const done = new Promise<void>((resolve) => {
      const stop = one.events.on('run:ended', () => {
        if (--left > 0) return;
        stop();
        resolve();
      });
    });
    const started = performance.now();
    // Eight submits at a time.
    const submits = Array.from({ length: runs }, () => `p${++person}`);
    await Promise.all(
      Array.from({ length: 8 }, async () => {
        for (let actor = submits.pop(); actor !== undefined; actor = submits.pop()) await one.runs.submit(task.id, { actor });
      }),
    );
    await done;
    return runs / ((performance.now() - started) / 1_000);
  };
  const theirs = async (): Promise<number> => {
    let left = runs;
    const started = performance.now();
    await Promise.all(
      Array.from({ length: slots }, async () => {
        while (left-- > 0) await bare.run();
      }),
    );
    return runs / ((performance.now() - started) / 1_000);
  };
  await rounds(
    `runner-throughput/${name}`,
    `python hello-world runs/s at ${slots} slots`,
    options.rounds,
    { ours, raw: theirs },
    options.json,
  );
  bare.remove();
}

function quantile(values: readonly number[], share: number): number {
  if (share === 0.5) return median(values);
  return [...values].sort((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * share))] ?? Number.NaN;
}
