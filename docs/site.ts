// `npm run docs`: the site while it is written. `npm run docs:build`: the site as it is published, in docs/.vitepress/dist, checked.

import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { checkSite } from './check-site.ts';

const here = import.meta.dirname;
const [command = 'dev', ...more] = process.argv.slice(2);

function run(file: string, ...args: readonly string[]): void {
  const { status } = spawnSync(process.execPath, ['--disable-warning=ExperimentalWarning', file, ...args], { cwd: here, stdio: 'inherit' });
  if (status !== 0) process.exit(status ?? 1);
}

run(join(here, 'typedoc.ts'));
run(join(here, '..', 'node_modules', 'vitepress', 'bin', 'vitepress.js'), command, '.', ...more);
if (command === 'build') {
  const { pages, links, problems } = checkSite(join(here, '.vitepress', 'dist'));
  for (const problem of problems) console.error(problem);
  console.log(`site: ${pages} pages, ${links} links, ${problems.length === 0 ? 'ok' : `${problems.length} of them lead nowhere`}`);
  process.exit(problems.length === 0 ? 0 : 1);
}
