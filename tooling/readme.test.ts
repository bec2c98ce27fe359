import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { root } from './paths.ts';

const readmes = readdirSync(join(root, 'packages')).filter((name) => existsSync(join(root, 'packages', name, 'README.md')));

/** Requirements of examples that not every machine meets. */
const needs: Readonly<Record<string, string>> = { 'code-runner': '/usr/bin/bwrap' };

it.each(readmes.filter((name) => existsSync(needs[name] ?? root)))('the example of packages/%s runs as it is printed', async (name) => {
  const code = /```ts\n([\s\S]*?)```/.exec(readFileSync(join(root, 'packages', name, 'README.md'), 'utf8'))?.[1];
  expect(code, 'a README opens with an example').toBeDefined();
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-readme-'));
  // The file is in the package, so that its imports resolve as a user's do. It runs in an empty folder.
  const file = join(root, 'packages', name, 'test', '.readme-example.ts');
  writeFileSync(file, code ?? '');
  const child = spawn(process.execPath, ['--conditions=@holdfast/source', '--disable-warning=ExperimentalWarning', file], {
    cwd: folder,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  // Also when the test has run out of time, and its end is not reached.
  onTestFinished(() => void child.kill('SIGKILL'));
  let output = '';
  let complaints = '';
  child.stdout.on('data', (data) => {
    output += data;
    // Some examples run for ever, so they are stopped after their last output.
    if (output.trim().split('\n').length === (code?.match(/console\.log/g)?.length ?? 0)) child.kill('SIGTERM');
  });
  child.stderr.on('data', (data) => {
    complaints += data;
  });
  try {
    const end = await once(child, 'close');
    // Others end by themselves.
    if (end[0] !== 0) expect(end).toEqual([null, 'SIGTERM']);
    expect(output.trim().split('\n').length).toBeGreaterThanOrEqual(code?.match(/console\.log/g)?.length ?? 0);
    expect(complaints).toBe('');
  } finally {
    rmSync(file, { force: true });
    rmSync(folder, { recursive: true, force: true });
  }
});
