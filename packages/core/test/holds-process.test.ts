import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, it } from 'vitest';

let folder: string | undefined;
afterEach(() => {
  if (folder) rmSync(folder, { recursive: true, force: true });
});

/** Runs a program in a process of its own. Returns its exit code (13: a promise that it awaited never settled) and its output. */
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

it.each([
  ['a pause of its own', 'await wait(300);', '0 continued'],
  [
    'a loop that was started',
    "const loop = defineLoop({ name: 'l', logger: silentLogger, runOnce: async () => undefined, minMs: 300 }); await loop.start(); setTimeout(() => loop.stop().then(() => console.log('stopped')), 900).unref();",
    '0 continued\nstopped',
  ],
])('keeps the process alive for %s', (_, statement, expected) => {
  expect(run(`import { defineLoop, silentLogger, wait } from '@holdfast/core';\n${statement}\nconsole.log('continued');`)).toBe(expected);
});
