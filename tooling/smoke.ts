import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildPackages } from './build.ts';
import { root } from './paths.ts';

const script = `
import { coreSchema, migrate } from '@holdfast/core';
import { openSqlite } from '@holdfast/core/sqlite';
import { bizType, compensateBizSchema, createCompensateBiz } from '@holdfast/compensate-biz';

const anything = { '~standard': { version: 1, vendor: 'smoke', validate: (value) => ({ value }) } };
const knex = openSqlite(':memory:');
await migrate(knex, [coreSchema, compensateBizSchema]);
const biz = createCompensateBiz({ knex, types: { greet: bizType(anything) } });
const done = new Promise((resolve) => biz.handle('greet', (context) => resolve(context.word)));
const worker = biz.worker();
await worker.start();
await biz.now().submit('greet', { word: 'hello' });
console.log('done: ' + (await done));
await worker.stop();
await biz.close();
await knex.destroy();
for (const name of ['outbox', 'notifier', 'notifier/verify', 'broker', 'broker/memory', 'sharded-scan', 'xxl-job', 'code-runner', 'code-runner/sandbox'])
  if (Object.keys(await import('@holdfast/' + name)).length === 0) throw new Error(name + ' exports nothing');
`;

// Packs every package as it would be published, installs the tarballs in an empty folder, and uses them there.
await buildPackages();
const folder = mkdtempSync(join(tmpdir(), 'holdfast-smoke-'));
try {
  const tarballs: string[] = [];
  for (const name of readdirSync(join(root, 'packages'))) {
    const source = join(root, 'packages', name);
    if (!existsSync(join(source, 'package.json'))) continue;
    cpSync(join(root, 'LICENSE'), join(source, 'LICENSE'));
    execFileSync(join(root, 'node_modules', '.bin', 'publint'), ['--strict', source], { stdio: 'inherit' });
    const packed = JSON.parse(
      execFileSync('npm', ['pack', '--json', '--pack-destination', folder], {
        cwd: source,
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
      }),
    ) as unknown;
    const [entry] = (Array.isArray(packed) ? packed : Object.values(packed as object)) as { filename: string }[];
    if (!entry) throw new Error(`npm pack gave nothing for ${name}`);
    rmSync(join(source, 'LICENSE'));
    const tarball = join(folder, entry.filename.replace('@', '').replace('/', '-'));
    execFileSync(join(root, 'node_modules', '.bin', 'attw'), ['--profile', 'esm-only', tarball], { stdio: 'inherit' });
    tarballs.push(tarball);
  }
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ name: 'smoke', private: true, type: 'module' }));
  execFileSync('npm', ['install', '--no-audit', '--no-fund', '--loglevel=error', ...tarballs], { cwd: folder, stdio: 'inherit' });
  writeFileSync(join(folder, 'use.js'), script);
  const output = execFileSync(process.execPath, ['use.js'], { cwd: folder, encoding: 'utf8' });
  if (output.trim() !== 'done: hello') throw new Error(`the installed packages printed ${JSON.stringify(output)}`);
  console.log(`smoke: ok (${tarballs.length} packages packed, installed and used)`);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
