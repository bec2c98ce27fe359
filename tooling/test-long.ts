// `npm run test:long`: the suite on the servers that `npm test` leaves out, one lane after the other.
import { execFileSync, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { root } from './paths.ts';

/** Tests that meet a server which the lane replaces; the others would only run again. */
const withDatabase = 'testDialects|onEveryDatabase|onEveryPair|scratchServer|HOLDFAST_POSTGRES_URL';
const longLanes = {
  mariadb: { databases: 'mariadb', uses: withDatabase },
  newer: { databases: 'postgres,mariadb', uses: `${withDatabase}|HOLDFAST_RABBITMQ_URL` },
} as const;

const given = process.argv.slice(2);
const wanted = Object.entries(longLanes).filter(([name]) => !given.some((arg) => arg in longLanes) || given.includes(name));
let code = 0;
for (const [name, { databases, uses }] of wanted) {
  const files = execFileSync(
    'git',
    [
      'grep',
      '-lE',
      uses,
      '--',
      ':(glob)packages/*/test/**/*.test.ts',
      ':(glob)examples/*/test/**/*.test.ts',
      ':(glob)chaos/test/**/*.test.ts',
    ],
    {
      cwd: root,
      encoding: 'utf8',
    },
  );
  console.log(`\nlane ${name}`);
  const { status } = spawnSync(
    process.execPath,
    [...process.execArgv, join(root, 'tooling', 'test.ts'), ...files.trim().split('\n'), ...given.filter((arg) => !(arg in longLanes))],
    { stdio: 'inherit', env: { ...process.env, HOLDFAST_LANE: name, HOLDFAST_DATABASES: databases } },
  );
  if (status !== 0) code = 1;
}
process.exit(code);
