// `npm run chaos -- [--minutes 60] [--cycles 50] [--seed N] [FILE …]`: the fault lanes of the suite with long figures, again
// and again with other seeds until the time is over. Stops at the first lane that goes red, and says how to run it again.

import { spawnSync } from 'node:child_process';
import { appendFileSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { root } from './paths.ts';
import { startServices } from './services/services.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { minutes: { type: 'string' }, cycles: { type: 'string' }, seed: { type: 'string' } },
});
const minutes = Number(values.minutes ?? 60);
const cycles = Number(values.cycles ?? 50);
let seed = Number(values.seed ?? Math.trunc(Date.now() / 1000) % 1_000_000);
const files =
  positionals.length > 0
    ? positionals
    : [
        'kill',
        'unsteady-server',
        'outage',
        'load',
        'test/commit',
        'sharded-scan/test/model',
        'outbox/test/brokers',
        'outbox/test/inbox',
        'code-runner/test/decide',
        'code-runner/test/hostile',
        'compute-dispatch/test/storm',
      ];
if (!(minutes > 0) || !(cycles > 0) || !Number.isInteger(seed)) {
  console.error('usage: npm run chaos -- [--minutes 60] [--cycles 50] [--seed N] [FILE …]');
  process.exit(2);
}

const services = await startServices({ skip: new Set(), log: (line) => console.log(line) });
const ends = Date.now() + minutes * 60_000;
const ledger = join(root, '.cache', 'chaos.jsonl');
mkdirSync(join(root, '.cache'), { recursive: true });
let code = 0;
try {
  for (; code === 0; seed++) {
    const started = Date.now();
    const env = {
      ...process.env,
      ...services.environment,
      HOLDFAST_SEED: String(seed),
      HOLDFAST_CYCLES: String(cycles),
      HOLDFAST_WORLDS: String(cycles * 200),
      // A storm of the reference service lasts this long in each round.
      HOLDFAST_STORM_SECONDS: String(Math.min(600, minutes * 60)),
    };
    const vitest = join(root, 'node_modules', 'vitest', 'vitest.mjs');
    code =
      spawnSync(process.execPath, [vitest, 'run', '--testTimeout=1800000', ...files], { cwd: root, stdio: 'inherit', env }).status ?? 1;
    appendFileSync(
      ledger,
      `${JSON.stringify({ at: new Date().toISOString(), seed, cycles, files, ms: Date.now() - started, green: code === 0 })}\n`,
    );
    if (code !== 0) console.error(`red; again with: npm run chaos -- --minutes 1 --cycles ${cycles} --seed ${seed} ${files.join(' ')}`);
    if (Date.now() >= ends) break;
  }
} finally {
  await services.stop();
}
console.log(`ledger: ${ledger}`);
process.exit(code);
