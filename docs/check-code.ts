// Holds what the pages show against the packages: every `ts` block is compiled, every `js` block parsed, every `sql` and `json` block parsed. `sh` blocks of the
// quick starts are run by `npm run smoke`; elsewhere they name scripts that must be there.

import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { DatabaseSync } from 'node:sqlite';

const root = join(import.meta.dirname, '..');
const out = join(import.meta.dirname, '.blocks');

function pages(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory())
      return ['node_modules', 'api', '.vitepress', '.blocks', 'images', 'public'].includes(entry.name) ? [] : pages(path);
    return entry.name.endsWith('.md') ? [path] : [];
  });
}

const readmes = [
  join(root, 'README.md'),
  join(root, 'SECURITY.md'),
  ...readdirSync(join(root, 'packages')).map((name) => join(root, 'packages', name, 'README.md')),
];
const scripts = Object.keys((JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { scripts: object }).scripts);
const problems: string[] = [];
let blocks = 0;

rmSync(out, { recursive: true, force: true });
mkdirSync(out);
for (const page of [...pages(import.meta.dirname), ...readmes]) {
  const text = readFileSync(page, 'utf8');
  const name = relative(root, page);
  // What a page's blocks stand on, and do not show.
  const setup = (/^---\n[\s\S]*?^setup: \|\n((?: {2}.*\n|\n)*)[\s\S]*?^---$/m.exec(text)?.[1] ?? '').replaceAll(/^ {2}/gm, '');
  let n = 0;
  for (const [, language = '', code = ''] of text.matchAll(/^```(\w*)[^\n]*\n([\s\S]*?)^```$/gm)) {
    blocks += 1;
    n += 1;
    const file = join(out, `${name.replaceAll(/[^\w]+/g, '-')}-${n}`);
    const where = `${name}, block ${n}`;
    if (language === 'ts') writeFileSync(`${file}.ts`, `// ${where}\n${imports(setup, code)}${code}\nexport {};\n`);
    else if (language === 'js') {
      writeFileSync(`${file}.mjs`, code);
      const { status, stderr } = spawnSync(process.execPath, ['--check', `${file}.mjs`], { encoding: 'utf8' });
      if (status !== 0) problems.push(`${where}: ${stderr.split('\n').slice(0, 5).join(' ')}`);
    } else if (language === 'json') JSON.parse(code);
    else if (language === 'sql') sql(where, code);
    else if (language === 'sh') {
      for (const [, script = ''] of code.matchAll(/npm run (?:-s )?([\w:]+)/g))
        if (!scripts.includes(script)) problems.push(`${where}: there is no npm script ${script}`);
    } else if (!['mermaid', 'text', '', 'java', 'md'].includes(language)) problems.push(`${where}: nobody checks ${language}`);
  }
}

/** Setup without what the block brings itself: a page may show an import that its other blocks only stand on. */
function imports(setup: string, code: string): string {
  const own = new Set(
    [...code.matchAll(/import (?:type )?\{([^}]*)\}/g)].flatMap(([, names = '']) =>
      names.split(',').map((one) => one.replace(/^\s*type /, '').trim()),
    ),
  );
  const declared = new Set([...code.matchAll(/^(?:const|let|function) (\w+)/gm)].map(([, one]) => one));
  return setup
    .split('\n')
    .map((line) => {
      const names = /^import (type )?\{([^}]*)\} from (.*)$/.exec(line);
      if (names) {
        const left = (names[2] ?? '')
          .split(',')
          .map((one) => one.trim())
          .filter((one) => !own.has(one.replace(/^type /, '')));
        return left.length === 0 ? '' : `import ${names[1] ?? ''}{ ${left.join(', ')} } from ${names[3]}`;
      }
      const constant = /^(?:declare )?(?:const|function) (\w+)/.exec(line);
      return constant && declared.has(constant[1]) ? '' : line;
    })
    .join('\n');
}

/** Checks that SQLite can read the code. The tables that the code names are made first. */
function sql(where: string, code: string): void {
  const db = new DatabaseSync(':memory:');
  try {
    for (const [, table] of code.matchAll(/(?:TABLE|FROM|INTO|UPDATE) (\w+)/g)) db.exec(`CREATE TABLE IF NOT EXISTS ${table} (id INTEGER)`);
    db.exec(code);
  } catch (error) {
    problems.push(`${where}: ${(error as Error).message}`);
  } finally {
    db.close();
  }
}

writeFileSync(
  join(out, 'tsconfig.json'),
  JSON.stringify({ extends: '../../tsconfig.json', compilerOptions: { noUnusedLocals: false }, include: ['*.ts'], exclude: [] }),
);
const { status, stdout } = spawnSync(join(root, 'node_modules', '.bin', 'tsc'), ['-p', out], { encoding: 'utf8' });
if (status !== 0) problems.push(stdout);
for (const problem of problems) console.error(problem);
if (problems.length === 0) rmSync(out, { recursive: true, force: true });
console.log(`code blocks: ${blocks} checked, ${problems.length === 0 ? 'ok' : 'FAILED'}`);
process.exit(problems.length === 0 ? 0 : 1);
