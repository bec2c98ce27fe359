import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';

const root = join(import.meta.dirname, '..', '..', '..');

function sources(folder: string): string[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((file) => /\.tsx?$/.test(file) && !file.endsWith('.test.ts'))
    .map((file) => join(folder, file));
}

function read(file: string): string {
  return readFileSync(join(root, file), 'utf8');
}

function imports(file: string): string[] {
  return [...read(file).matchAll(/(?:\bfrom\s+|\bimport\s*\(?\s*)'([^']+)'/g)]
    .map((match) => match[1] ?? '')
    .filter((name) => !name.startsWith('.') && !name.startsWith('node:'));
}

const packages = readdirSync(join(root, 'packages'));

const drivers: Readonly<Record<string, readonly string[]>> = {
  kafka: ['kafkajs'],
  'platformatic-kafka': ['@platformatic/kafka'],
  rabbitmq: ['amqplib'],
  redis: ['ioredis'],
  s3: ['@aws-sdk/client-s3', '@aws-sdk/s3-request-presigner'],
  kubernetes: ['@kubernetes/client-node'],
};

/** The packages and libraries that a package may import besides core. */
const own: Readonly<Record<string, readonly string[]>> = {
  notifier: ['undici'],
  http: ['hono'],
  'code-runner': ['@holdfast/http', 'tar-stream', 'yauzl', 'yazl', 'zod'],
};

it.each(packages)('packages/%s imports what it may', (name) => {
  const common =
    name === 'core' ? ['knex', 'p-retry', '@opentelemetry/api'] : ['@holdfast/core', '@standard-schema/spec', 'knex', 'croner'];
  for (const file of sources(`packages/${name}/src`)) {
    if (name !== 'broker')
      expect(read(file), `${file} imports more than types of the broker`).not.toMatch(/import (?!type)[^;]*'@holdfast\/broker/);
    // Only the folder that adapts a driver may import it, so that no other import loads it.
    const ports = name === 'core' || name === 'broker' ? [] : ['@holdfast/broker'];
    const allowed = [...common, ...(own[name] ?? []), ...ports, ...(drivers[file.split('/src/')[1]?.split('/')[0] ?? ''] ?? [])];
    for (const imported of imports(file)) {
      expect(
        allowed.some((one) => imported === one || imported.startsWith(`${one}/`)),
        `${file} imports ${imported}`,
      ).toBe(true);
      expect(imported, `${file} reaches into another package`).not.toMatch(/^@holdfast\/[^/]+\/(?!sqlite$|testing$)/);
    }
  }
});

it.each([...packages.map((name) => `packages/${name}/src`), 'examples/compute-dispatch/src', 'bench/src', 'chaos/src', 'tooling'])(
  'has no circle of imports between the files of %s',
  (folder) => {
    const files = new Set(sources(folder));
    const targets = (file: string): string[] =>
      [...read(file).matchAll(/\bfrom\s+'(\.[^']+)'/g)]
        .map((match) => join(file, '..', match[1] ?? ''))
        .filter((target) => files.has(target));
    const done = new Set<string>();
    const circles: string[] = [];
    const visit = (file: string, path: readonly string[]): void => {
      if (path.includes(file)) circles.push([...path.slice(path.indexOf(file)), file].join(' -> '));
      if (done.has(file) || path.includes(file)) return;
      for (const target of targets(file)) visit(target, [...path, file]);
      done.add(file);
    };
    for (const file of files) visit(file, []);
    expect(circles).toEqual([]);
  },
);

it('keeps the clock and the source of random numbers in core', () => {
  for (const name of packages.filter((one) => one !== 'core')) {
    for (const file of sources(`packages/${name}/src`)) {
      const text = readFileSync(join(root, file), 'utf8').replaceAll(/Math\.random\(\)\); *\/\/ jitter/g, '');
      expect(text, file).not.toMatch(/Date\.now\(\)|Math\.random\(\)/);
    }
  }
});

it('imports packages by their published entry points only, outside of the packages', () => {
  for (const folder of ['examples', 'bench', 'chaos']) {
    for (const file of sources(folder).filter((one) => !one.includes('node_modules') && !one.includes('dist'))) {
      expect(readFileSync(join(root, file), 'utf8'), file).not.toMatch(/packages\/[\w-]+\/src/);
    }
  }
});

it('changes and locks rows by a list of their ids through the primary key: MySQL and MariaDB would read, and wait for, the whole of a small table', () => {
  const byIds =
    '(?:(?!primaryKeyHint)[^`])*(?:\\bid IN \\(\\$\\{(?!pick|best)|\\$\\{(?:ids|list|gone)\\.sql\\}|\\.ids\\([^`]*\\)\\.sql\\})';
  const direct = new RegExp(`\`(?:(?:DELETE FROM|UPDATE) ${byIds}|SELECT ${byIds}[^\`]*(?:FOR UPDATE|skipLocked|forUpdate))`, 'g');
  for (const name of packages) for (const file of sources(`packages/${name}/src`)) expect(read(file).match(direct) ?? [], file).toEqual([]);
});

it('sorts by an id of a table, never by a column of the result, which may be the id as text: 10 would come before 9', () => {
  const bare = /ORDER BY (?:[^`]*?, )?id(?! ON CONFLICT)\b(?!\.)[^`]*`/g;
  for (const name of packages)
    for (const file of sources(`packages/${name}/src`))
      expect(
        read(file)
          .replaceAll(/^ *\*.*$/gm, '')
          .match(bare) ?? [],
        file,
      ).toEqual([]);
});

/** The last argument of each call of `name` in a source text. */
function lastArguments(source: string, name: string): string[] {
  return [...source.matchAll(new RegExp(`(?<![\\w.])${name.replace('.', '\\.')}\\(`, 'g'))].map((call) => {
    const from = (call.index ?? 0) + call[0].length;
    let [depth, at, last] = [0, from, from];
    for (; depth >= 0 && at < source.length; at++) {
      const c = source[at] ?? '';
      if ('([{'.includes(c)) depth += 1;
      else if (')]}'.includes(c)) depth -= 1;
      else if (c === ',' && depth === 0 && source.slice(at + 1).trimStart()[0] !== ')') last = at + 1;
    }
    return source
      .slice(last, at - 1)
      .trim()
      .replace(/,$/, '');
  });
}

it('timers whose delay an option decides are of our own kind, since one of Node fires at once after 24.8 days', () => {
  const found: string[] = [];
  for (const file of [...packages.map((name) => `packages/${name}/src`), 'examples/compute-dispatch/src'].flatMap(sources)) {
    if (file.endsWith('core/src/time/timer.ts') || file.includes('/testing/') || file.includes('/simulator/')) continue;
    const source = read(file);
    for (const name of ['setTimeout', 'AbortSignal.timeout'])
      for (const delay of lastArguments(source, name)) {
        const constant = new RegExp(`const ${delay.replaceAll(/\W/g, '')} = [\\d_]+;`).test(source);
        if (!/^[\d_]+$/.test(delay) && !constant) found.push(`${file}: ${name} with ${delay}`);
      }
  }
  expect(found).toEqual([]);
});
