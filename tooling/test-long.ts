// `npm run test:long`: runs the tests that `npm test` skips, and then the tests on the servers that it skips, one lane after the other.
import { execFileSync, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { root } from './paths.ts';

/** Text in the files that use a database. In the lanes `mariadb` and `newer` the other files would only run again. */
const withDatabase = 'testDialects|onEveryDatabase|onEveryPair|scratchServer|HOLDFAST_POSTGRES_URL';
const longLanes: Readonly<Record<string, { readonly databases?: string; readonly files: () => readonly string[] }>> = {
  long: { files: () => ['.long.test.ts'] },
  mariadb: { databases: 'mariadb', files: () => filesWith(withDatabase) },
  newer: { databases: 'postgres,mariadb', files: () => filesWith(`${withDatabase}|HOLDFAST_RABBITMQ_URL`) },
};

function filesWith(pattern: string): readonly string[] {
  const tests = ['packages/*', 'examples/*', 'chaos'].map((folder) => `:(glob)${folder}/test/**/*.test.ts`);
  return execFileSync('git', ['grep', '--untracked', '-lE', pattern, '--', ...tests], { cwd: root, encoding: 'utf8' })
    .trim()
    .split('\n');
}

const given = process.argv.slice(2);
const wanted = Object.entries(longLanes).filter(([name]) => !given.some((arg) => arg in longLanes) || given.includes(name));
let code = 0;
for (const [name, { databases, files }] of wanted) {
  console.log(`\nlane ${name}`);
  const { status } = spawnSync(
    process.execPath,
    [...process.execArgv, join(root, 'tooling', 'test.ts'), ...files(), ...given.filter((arg) => !(arg in longLanes))],
    {
      stdio: 'inherit',
      env: { ...process.env, HOLDFAST_LANE: name, ...(databases === undefined ? {} : { HOLDFAST_DATABASES: databases }) },
    },
  );
  if (status !== 0) code = 1;
}
process.exit(code);
