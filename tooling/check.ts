import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { root } from './paths.ts';

const bin = (name: string): string => join(root, 'node_modules', '.bin', name);
const steps: readonly (readonly [string, string, readonly string[]])[] = [
  ['lint and format', bin('biome'), ['check', '--error-on-warnings', '.']],
  ['types', bin('tsc'), []],
  ['declarations', bin('tsc'), ['-p', 'tsconfig.declarations.json']],
  ['dead code', bin('knip'), []],
  ['code in the documentation', process.execPath, [join(root, 'docs', 'check-code.ts')]],
  ['doc comments', process.execPath, [join(root, 'docs', 'typedoc.ts')]],
];
let failed = 0;
for (const [name, command, args] of steps) {
  const { status } = spawnSync(command, args, { cwd: root, stdio: 'inherit' });
  console.log(`${name}: ${status === 0 ? 'ok' : 'FAILED'}`);
  if (status !== 0) failed += 1;
}
process.exit(failed === 0 ? 0 : 1);
