import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { root } from '../../tooling/paths.ts';

/** Faults that are tested beside the code, in the packages' own tests. Long runs use other seeds and more cycles. */
export interface Suite {
  readonly faults: readonly string[];
  readonly what: string;
  readonly files: readonly string[];
  /** Cycles per round. */
  readonly cycles: number;
}

export const suites: readonly Suite[] = [
  { faults: ['F3', 'F4'], what: 'outbox: replies to COMMIT lost, low ids late', files: ['packages/outbox/test/commit'], cycles: 10 },
  { faults: ['F3'], what: 'webhook: replies to COMMIT lost', files: ['packages/notifier/test/commit'], cycles: 10 },
  {
    faults: ['F5', 'F6', 'F20'],
    what: 'outbox: Kafka, RabbitMQ and Redis killed and frozen',
    files: ['packages/outbox/test/brokers'],
    cycles: 3,
  },
  { faults: ['F7', 'F10'], what: 'inbox: repeats, late duplicates', files: ['packages/outbox/test/inbox'], cycles: 5 },
  { faults: ['F9'], what: 'consumer: members join and leave', files: ['packages/outbox/test/rebalance'], cycles: 3 },
  { faults: ['F11'], what: 'task: killed under load', files: ['packages/compensate-biz/test/load'], cycles: 1 },
  {
    faults: ['F12', 'F13', 'F14'],
    what: 'task: zombies, crash loops, cut heartbeats',
    files: ['packages/compensate-biz/test/kill'],
    cycles: 3,
  },
  { faults: ['F18'], what: 'SQL: deadlocks, serialization failures, lock time-outs', files: ['packages/core/test/database'], cycles: 100 },
  { faults: ['F19'], what: 'SQL: disk full', files: ['packages/compensate-biz/test/disk'], cycles: 3 },
  {
    faults: ['F22', 'F23', 'F25'],
    what: 'webhook: hostile receivers, rebinding, rotated keys',
    files: ['packages/notifier/test/attempts', 'packages/notifier/test/egress', 'packages/notifier/test/endpoints'],
    cycles: 3,
  },
  { faults: ['F24'], what: 'webhook: one dead endpoint among many', files: ['packages/notifier/test/many-endpoints'], cycles: 3 },
  {
    faults: ['F26', 'F27'],
    what: 'scan: rows change, units stolen, model',
    files: ['packages/sharded-scan/test/kill', 'packages/sharded-scan/test/lottery', 'packages/sharded-scan/test/model'],
    cycles: 5,
  },
  {
    faults: ['F30', 'F31'],
    what: 'runner: workers killed, replies lost, stops that race',
    files: ['packages/code-runner/test/kill', 'packages/code-runner/test/decide', 'packages/code-runner/test/kubernetes'],
    cycles: 3,
  },
  { faults: ['F32'], what: 'reference service: a storm', files: ['examples/compute-dispatch/test/storm'], cycles: 1 },
];

/** The result of a run of a suite. */
export interface SuiteRun {
  readonly suite: string;
  readonly faults: readonly string[];
  readonly seed: number;
  readonly cycles: number;
  readonly ms: number;
  readonly passed: number;
  /** How many of them are controls: tests that break something on purpose, and pass if that is seen. */
  readonly controls: number;
  readonly red: readonly string[];
}

/** Runs the tests of a suite, in a process of their own. */
export async function runSuite(suite: Suite, options: { readonly seed: number; readonly env: NodeJS.ProcessEnv }): Promise<SuiteRun> {
  const started = performance.now();
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-suite-'));
  const report = join(folder, 'report.json');
  const child = spawn(
    process.execPath,
    [
      join(root, 'node_modules', 'vitest', 'vitest.mjs'),
      'run',
      '--testTimeout=1800000',
      '--reporter=json',
      `--outputFile=${report}`,
      ...suite.files,
    ],
    {
      cwd: root,
      stdio: 'ignore',
      env: { ...process.env, ...options.env, HOLDFAST_SEED: String(options.seed), HOLDFAST_CYCLES: String(suite.cycles) },
    },
  );
  try {
    await once(child, 'exit');
    const { testResults } = JSON.parse(readFileSync(report, 'utf8')) as {
      testResults: { message: string; assertionResults: { status: string; fullName: string; failureMessages: string[] }[] }[];
    };
    const tests = testResults.flatMap(({ assertionResults }) => assertionResults);
    const passed = tests.filter(({ status }) => status === 'passed');
    const failed = tests.filter(({ status }) => status === 'failed');
    const red = failed.map(({ fullName, failureMessages }) => `${fullName}: ${failureMessages[0]?.split('\n')[0]}`);
    // A file that could not be loaded has no tests.
    for (const { assertionResults, message } of testResults) if (assertionResults.length === 0) red.push(message.split('\n')[0] ?? '');
    if (passed.length === 0) red.push('no test ran');
    return {
      suite: suite.what,
      faults: suite.faults,
      seed: options.seed,
      cycles: suite.cycles,
      ms: Math.round(performance.now() - started),
      passed: passed.length,
      controls: passed.filter(({ fullName }) =>
        /\(control[):]|negative control|without (a|the) fence|where the fence is off/.test(fullName),
      ).length,
      red,
    };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
