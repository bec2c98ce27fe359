// `npm run bench`: runs every bench, and rewrites docs/benchmarks.md with its drawings. `npm run bench -- NAME`: runs one, and prints only.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { dispatch } from './dispatch/main.ts';
import { flowBench } from './flow/main.ts';
import { notifier } from './notifier/main.ts';
import { outbox } from './outbox/main.ts';
import { writePage } from './report/page.ts';
import { keepRun, type Line, machine, readResults, versions } from './report/results.ts';
import { databaseVersions } from './report/servers.ts';
import { runner } from './runner/main.ts';
import { scan } from './scan/main.ts';
import { tasks } from './tasks.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: 'boolean' },
    rounds: { type: 'string' },
    only: { type: 'string' },
    members: { type: 'string' },
    backlog: { type: 'string' },
    minutes: { type: 'string' },
    contestants: { type: 'string' },
    save: { type: 'boolean' },
  },
});
/** The peers that the benches compare with, besides raw SQL. */
const peers = {
  tasks: ['graphile-worker', 'pg-boss', 'plainjob', 'better-sqlite3', 'pg', 'mysql2', 'knex'],
  flow: ['graphile-worker', 'pg-boss', 'bullmq', 'pg'],
  outbox: ['kafkajs', '@platformatic/kafka', 'amqplib', 'knex'],
  notifier: ['undici', 'bullmq', 'ioredis'],
  scan: ['pg', 'knex'],
  runner: [],
  dispatch: ['pg', 'undici'],
} as const;
const benches: Record<keyof typeof peers, typeof tasks> = { tasks, flow: flowBench, outbox, notifier, scan, runner, dispatch };
const names = Object.keys(benches) as (keyof typeof peers)[];
if (values.save && values.only !== undefined)
  throw new Error('--save keeps whole benches, so that a page never mixes runs; leave --only out.');
const rounds = Number(values.rounds ?? 5);
const name = positionals[0] as keyof typeof peers | 'report' | undefined;

if (name === undefined || (name in benches && values.save)) await all(name === undefined ? names : [name as keyof typeof peers]);
else if (name === 'report') writePage(readResults());
else if (name in benches)
  await benches[name]({
    json: values.json ?? false,
    rounds,
    only: values.only === undefined ? undefined : new Set(values.only.split(',')),
    members: Number(values.members ?? 2_650_000),
    backlog: Number(values.backlog ?? 10_000_000),
    minutes: Number(values.minutes ?? 10),
    contestants: values.contestants === undefined ? undefined : new Set(values.contestants.split(',')),
  });
else {
  console.error(
    `usage: npm run bench                                   all of them, and the report\n       npm run bench -- ${names.join('|')} [--save] [--json] [--rounds 5] [--only CASE,…] [--members N] [--backlog N] [--minutes 10] [--contestants ours,raw,…]\n       npm run bench -- report                         the report from what was measured last`,
  );
  process.exit(2);
}

/** Runs each bench in a process of its own, so that memory that one leaves does not slow the next. */
async function all(which: readonly (keyof typeof peers)[]): Promise<void> {
  for (const bench of which) {
    console.log(`\n${bench}`);
    const more = Object.entries(values).flatMap(([option, value]) => (typeof value === 'string' ? [`--${option}`, value] : []));
    const child = spawn(process.execPath, [...process.execArgv, import.meta.filename, bench, '--json', ...more], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const lines: Line[] = [];
    for await (const text of createInterface({ input: child.stdout })) {
      console.log(text);
      if (text.startsWith('{')) lines.push(JSON.parse(text) as Line);
    }
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
    if (child.exitCode !== 0) throw new Error(`the bench ${bench} ended with ${child.exitCode ?? child.signalCode}`);
    const on = new Date().toISOString().slice(0, 10);
    const installed = [await databaseVersions(lines), versions(peers[bench])].filter((part) => part !== '').join(', ');
    writePage(keepRun(bench, { on, machine: machine(), versions: installed, rounds, lines }));
  }
}
