import { existsSync, globSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { root } from './paths.ts';

const read = (file: string): string => readFileSync(join(root, file), 'utf8');
const matches = (text: string, pattern: RegExp): string[] => [...text.matchAll(pattern)].map(([, found = '']) => found);

const sources = globSync(
  ['{packages,examples}/*/{src,web}/**/*.{ts,tsx}', '{bench,chaos}/src/**/*.ts', 'docs/*.ts', 'docs/errors/*.ts', 'tooling/**/*.ts'],
  { cwd: root },
)
  .concat(['packages/core/test/reserved-words.ts'])
  .filter((file) => !file.endsWith('.test.ts'))
  .map(read);
const code = sources.join('\n');
/** The files that export a name. */
const exporters = new Map<string, string[]>();
for (const source of sources)
  for (const name of matches(source, /^export (?:declare )?(?:abstract )?(?:async )?(?:class|const|function|interface|type) (\w+)/gm))
    exporters.set(name, [...(exporters.get(name) ?? []), source]);

const manifests = ['package.json', ...globSync('{packages,examples}/*/package.json', { cwd: root })].map(
  (file) =>
    JSON.parse(read(file)) as { name: string; scripts?: object; exports?: object; peerDependencies?: object; devDependencies?: object },
);
const npmNames = new Set(
  manifests.flatMap(({ name, peerDependencies, devDependencies }) => [name, ...Object.keys({ ...peerDependencies, ...devDependencies })]),
);
const subpaths = new Set(manifests.flatMap(({ exports }) => Object.keys(exports ?? {})));
const scripts = new Set(Object.keys(manifests[0]?.scripts ?? {}));

/**
 * Whether something that a guide sets in backticks exists. Guides write: paths from the root of the repository, with `<name>` for a part that
 * the reader chooses; exported names, and their members as `Owner.member`; texts in quotes, as sources have them; names of tables and
 * columns; packages; `npm` commands; environment variables. In a row of a table that starts with a folder, paths may start in its `src`.
 */
function exists(token: string, folder: string | undefined): boolean {
  if (/^npm (test|run [\w:]+)/.test(token)) return token.startsWith('npm test') || scripts.has(/^npm run ([\w:]+)/.exec(token)?.[1] ?? '');
  if (/^'[^']+'$/.test(token) || /^HOLDFAST_\w+$/.test(token) || /^[a-z]+(_[a-z]+)+$/.test(token)) return code.includes(token);
  if (npmNames.has(token) || subpaths.has(token)) return true;
  // A part that the reader chooses: the folder before it exists.
  const path = token.includes('<') ? dirname(`${token.slice(0, token.indexOf('<'))}x`) : token;
  if ([root, ...(folder === undefined ? [] : [join(root, folder, 'src')])].some((place) => existsSync(join(place, path)))) return true;
  const [, owner = '', member] = /^(\w+)(?:\.(#?\w+))?$/.exec(token) ?? [];
  if (!exporters.has(owner)) return false;
  const declared = new RegExp(`^ +(?:(?:readonly|async|get|static) )*${member}\\b[(?:<!]`, 'm');
  return member === undefined || (exporters.get(owner) ?? []).some((source) => declared.test(source));
}

/** Everything in backticks that does not exist, and every link that leads nowhere. */
function wrong(text: string, place: string): string[] {
  const prose = text.replaceAll(/^ *```[\s\S]*?^ *```$/gm, '');
  const tokens = prose.split('\n').flatMap((line) => {
    const found = matches(line, /`([^`]+)`/g);
    const first = line.startsWith('| ') && existsSync(join(root, found[0] ?? '', 'src')) ? found[0] : undefined;
    return found.filter((token) => !exists(token, first));
  });
  const links = matches(prose, /\]\(([^)#:]+)(?:#[^)]*)?\)/g).filter((link) => !existsSync(join(root, place, link)));
  return [...tokens, ...links];
}

/** The history of flaky tests names files as they were. */
const guides = readdirSync(join(root, 'contributing')).filter((name) => name.endsWith('.md') && name !== 'flaky-tests.md');

describe('the guides for contributors', () => {
  it.each(guides)('contributing/%s names only paths, exports and texts that exist', (name) => {
    const text = read(`contributing/${name}`);
    expect(matches(text, /`([^`]+)`/g).length).toBeGreaterThan(20);
    expect(wrong(text, 'contributing')).toEqual([]);
  });

  it('are linked from CONTRIBUTING.md, whose table of folders names only folders that exist', () => {
    const text = read('CONTRIBUTING.md');
    for (const name of guides) expect(text).toContain(`(contributing/${name})`);
    const table = matches(text, /^(\| `.*)$/gm);
    expect(table.length).toBeGreaterThan(10);
    expect(wrong(table.join('\n'), '.')).toEqual([]);
    expect(wrong(text, '.').filter((one) => one.includes('.md'))).toEqual([]);
  });

  it('name every folder of every package in the tables of the architecture', () => {
    const text = read('contributing/architecture.md');
    const lines = text.split('\n');
    const missing = readdirSync(join(root, 'packages')).flatMap((name) => {
      const own = lines.filter((line) => line.includes(`\`packages/${name}`)).join('\n');
      return readdirSync(join(root, 'packages', name, 'src'), { withFileTypes: true })
        .filter((entry) => entry.isDirectory() && !matches(own, /`([^`]+)`/g).some((token) => token.split('/').includes(entry.name)))
        .map((entry) => `packages/${name}/src/${entry.name}`);
    });
    expect(missing).toEqual([]);
  });

  it('draw the layers of the kernel as its imports are', () => {
    const text = read('contributing/architecture.md');
    const layers = new Map(
      [...text.matchAll(/^\| (\d) +\| `packages\/core\/src\/(\w+)`/gm)].map(([, layer, folder = '']) => [folder, Number(layer)]),
    );
    for (const [, layer, folders = ''] of text.matchAll(/\["(\d): ([\w, ]+)"\]/g))
      expect(
        folders.split(', ').map((folder) => layers.get(folder)),
        folders,
      ).toEqual(folders.split(', ').map(() => Number(layer)));
    const upward = globSync('packages/core/src/*/**/*.ts', { cwd: root }).flatMap((file) => {
      const [, , , folder = ''] = file.split('/');
      return matches(read(file), /\bfrom '(\.[^']+)'/g)
        .map((target) => join(file, '..', target).split('/')[3] ?? '')
        .filter((target) => target !== folder && !((layers.get(target) ?? 9) < (layers.get(folder) ?? -1)))
        .map((target) => `${file} imports ${target}`);
    });
    expect(upward).toEqual([]);
  });

  it('would be found wrong: a path, a name, a member, a text, a command, a cell, a link', () => {
    expect(
      wrong(
        [
          '1. `packages/core/src/lease/lease-tabel.ts` holds `LeaseTable.acquired`, `LeaseTabel`, `LeaseTable`.',
          "2. Answer `'retriabel'`, not `'retriable'`; then `npm run smoek`, and `packages/nobody/src/<name>/index.ts`.",
          '| `packages/outbox` | `put`, `submit` | [here](nowhere.md) |',
        ].join('\n'),
        'contributing',
      ),
    ).toEqual([
      'packages/core/src/lease/lease-tabel.ts',
      'LeaseTable.acquired',
      'LeaseTabel',
      "'retriabel'",
      'npm run smoek',
      'packages/nobody/src/<name>/index.ts',
      'submit',
      'nowhere.md',
    ]);
  });
});
