import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, it } from 'vitest';

let folder: string | undefined;
afterEach(() => {
  if (folder) rmSync(folder, { recursive: true, force: true });
});

/** Runs a program in a process that does nothing else. Returns its exit code (13: a promise that it awaited was left) and its output. */
function run(program: string): string {
  // Inside the package, so that its imports resolve.
  folder = mkdtempSync(join(import.meta.dirname, '.program-'));
  const file = join(folder, 'program.ts');
  writeFileSync(file, program);
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    ['--conditions=@holdfast/source', '--disable-warning=ExperimentalWarning', file],
    { encoding: 'utf8', timeout: 50_000 },
  );
  return `${status} ${stdout}${stderr}`.trim();
}

it('holds the process while a caller waits for a lock of SQLite', () => {
  const program = `
import { coreSchema, migrate } from '@holdfast/core';
import { openSqlite } from '@holdfast/core/sqlite';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
const file = import.meta.dirname + '/held.db';
const other = spawn(process.execPath, ['-e', \`
  const { DatabaseSync } = require('node:sqlite');
  const db = new DatabaseSync(\${JSON.stringify(file)});
  db.exec('BEGIN IMMEDIATE');
  console.log('locked');
  setTimeout(() => db.exec('COMMIT'), 1500);
\`], { stdio: ['ignore', 'pipe', 'ignore'], detached: true });
await once(other.stdout, 'data');
other.stdout.destroy();
other.unref();
const knex = openSqlite(file);
await migrate(knex, [coreSchema]);
console.log('migrated');
await knex.destroy();
`;
  expect(run(program)).toBe('0 migrated');
});

it.each([
  ['a pause of its own', 'await wait(300);', '0 went on'],
  [
    'a loop that was started',
    "const loop = defineLoop({ name: 'l', logger: silentLogger, runOnce: async () => undefined, minMs: 300 }); await loop.start(); setTimeout(() => void loop.stop(), 900).unref();",
    '0 went on',
  ],
])('holds the process for %s', (_, statement, expected) => {
  expect(run(`import { defineLoop, silentLogger, wait } from '@holdfast/core';\n${statement}\nconsole.log('went on');`)).toBe(expected);
});
