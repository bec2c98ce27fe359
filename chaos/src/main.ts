// `npm run chaos -- [F1,F12] [--minutes 60] [--seed S] [--database postgres] [--list] [--ledger FILE]`: lanes and suites in an order that follows
// from the seed, each with a seed of its own, until the time has passed. The first red run ends it, and prints how to repeat that run.

import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { seededRandom, type TestDialect, testDialects } from '@holdfast/core/testing';
import { root } from '../../tooling/paths.ts';
import { mariadb } from '../../tooling/services/mariadb.ts';
import { mysql } from '../../tooling/services/mysql.ts';
import { postgres } from '../../tooling/services/postgres.ts';
import { type ScratchServer, scratchServer } from '../../tooling/services/scratch.ts';
import { knownServices, startServices } from '../../tooling/services/services.ts';
import { disturbances } from './disturbances.ts';
import { faults } from './faults.ts';
import { type Lane, laneName, lanes, runControls, runLane } from './lane.ts';
import { Ledger } from './ledger.ts';
import type { LoadName } from './loads/load.ts';
import { runSuite, type Suite, suites } from './suites.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    minutes: { type: 'string', default: '60' },
    seed: { type: 'string' },
    database: { type: 'string' },
    ledger: { type: 'string', default: join(root, 'docs', 'proof', 'ledger.json') },
    'lanes-only': { type: 'boolean', default: false },
    list: { type: 'boolean', default: false },
  },
});
const minutes = Number(values.minutes);
const seed = Number(values.seed ?? Math.trunc(Date.now() / 1_000) % 1_000_000);
const database = values.database === undefined ? '' : ` --database ${values.database}`;
const wanted = new Set(positionals.flatMap((one) => one.toUpperCase().split(',')));
const unknown = [...wanted].filter((id) => !faults.some((fault) => fault.id === id));
if (!(minutes > 0) || !Number.isInteger(seed) || unknown.length > 0) {
  if (unknown.length > 0) console.error(`There is no ${unknown.join(', ')}; \`npm run chaos -- --list\` shows what there is.`);
  console.error(
    'usage: npm run chaos -- [F1,F12] [--minutes 60] [--seed S] [--database postgres|mysql|mariadb|sqlite] [--lanes-only] [--list] [--ledger FILE]',
  );
  process.exit(2);
}
if (values.list) {
  for (const { id, part, fault, holds } of faults) console.log(`${id.padEnd(4)} ${part}: ${fault}\n     must hold: ${holds}`);
  process.exit(0);
}

type Item = { readonly lane: Lane; readonly dialect: TestDialect; readonly server: ScratchServer | undefined } | { readonly suite: Suite };

const fits = (ids: readonly string[]): boolean => wanted.size === 0 || ids.some((id) => wanted.has(id));
const ledger = new Ledger(values.ledger);
const services = await startServices({ wanted: knownServices, skip: new Set(), log: (line) => console.log(line) });
const servers: Partial<Record<string, ScratchServer>> = {};
let code = 0;
try {
  // These servers are killed, so they are not those of the tests.
  for (const [name, service] of Object.entries({ postgres, mysql, mariadb })) servers[name] = await scratchServer(service, `${name}-chaos`);
  const dialects = testDialects({
    HOLDFAST_POSTGRES_URL: servers.postgres?.url,
    HOLDFAST_MYSQL_URL: servers.mysql?.url,
    HOLDFAST_MARIADB_URL: servers.mariadb?.url,
  }).filter(({ name }) => values.database === undefined || values.database === name);
  const random = seededRandom(seed);
  const ends = performance.now() + minutes * 60_000;
  console.log(`seed ${seed}, ${minutes} minutes\n`);
  for (let round = 0; code === 0 && performance.now() < ends; round++) {
    code = await controls(dialects, seed + round);
    const items: Item[] = [
      ...lanes
        .filter((lane) => fits(lane.faults))
        .flatMap((lane) =>
          dialects
            .filter(({ name }) => name in servers || !disturbances[lane.disturbance].server)
            .map((dialect): Item => ({ lane, dialect, server: servers[dialect.name] })),
        ),
      ...(values['lanes-only'] ? [] : suites.filter((suite) => fits(suite.faults)).map((suite): Item => ({ suite }))),
    ];
    if (items.length === 0) throw new Error('No lane or suite has these faults on this database.');
    for (const item of shuffled(items, random)) {
      if (code !== 0 || performance.now() >= ends) break;
      code = await one(item, seed + round);
    }
  }
} finally {
  for (const server of Object.values(servers)) await server?.stop();
  await services.stop();
}
console.log(`\n${code === 0 ? 'all green' : 'RED'}; ${Math.round(ledger.seconds / 60)} minutes in all in ${values.ledger}`);
process.exit(code);

/** Runs the negative controls, in each round on another database. */
async function controls(dialects: readonly TestDialect[], at: number): Promise<number> {
  const names: readonly LoadName[] = ['task', 'outbox', 'webhook', 'scan'];
  let blind = 0;
  for (const load of names.filter((name) => lanes.some((lane) => lane.load === name && fits(lane.faults)))) {
    const dialect = dialects[at % dialects.length];
    if (!dialect) continue;
    for (const control of await runControls(load, { dialect, seed: at })) {
      ledger.addControl(control);
      if (control.seen === 0) blind += 1;
      console.log(
        `${control.seen > 0 ? 'red  ' : 'BLIND'} control ${load} on ${dialect.name}: ${control.broken}: ${control.seen} ${control.sees}${control.seen > 0 ? ', as it must be' : ''}`,
      );
    }
    ledger.save();
  }
  return blind === 0 ? 0 : 1;
}

async function one(item: Item, at: number): Promise<number> {
  if ('suite' in item) {
    const env = {
      ...services.environment,
      HOLDFAST_WORLDS: '2000',
      HOLDFAST_STORM_SECONDS: String(Math.min(600, Math.max(60, minutes * 6))),
    };
    const run = await runSuite(item.suite, { seed: at, env });
    ledger.addSuite(run);
    ledger.save();
    const figures = `${run.passed} tests, ${run.controls} of them controls`;
    return say(`${run.suite}, seed ${at}, ${Math.round(run.ms / 1_000)} s: ${figures}`, run.red, item.suite.faults, at);
  }
  const { lane, dialect, server } = item;
  const run = await runLane(lane, { dialect, server, seed: at, cycles: lane.cycles * 3 });
  ledger.addLane(run);
  ledger.save();
  const { accepted, lost, duplicated, repeated } = run.verdict;
  const figures = `${accepted} accepted, ${lost} lost, ${duplicated} duplicated, ${repeated} repeated${run.slowestMs > 0 ? `, works again within ${run.slowestMs} ms` : ''}; ${Object.entries(
    run.counts,
  )
    .map(([what, n]) => `${n} ${what}`)
    .join(', ')}`;
  return say(`${laneName(lane)} on ${dialect.name}, seed ${at}, ${Math.round(run.ms / 1_000)} s: ${figures}`, run.red, lane.faults, at);
}

function say(line: string, red: readonly string[], ids: readonly string[], at: number): number {
  console.log(`${red.length === 0 ? 'green' : 'RED  '} ${line}`);
  for (const why of red) console.log(`      ${why}`);
  if (red.length > 0) console.error(`again with: npm run chaos -- ${ids.join(',')} --minutes 1 --seed ${at}${database}`);
  return red.length === 0 ? 0 : 1;
}

function shuffled<T>(list: readonly T[], random: () => number): T[] {
  const result = [...list];
  for (let i = result.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [result[i], result[j]] = [result[j] as T, result[i] as T];
  }
  return result;
}
