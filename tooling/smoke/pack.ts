import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { root } from '../paths.ts';

/** A packed package. */
export interface Packed {
  readonly folder: string;
  readonly name: string;
  readonly version: string;
  readonly tarball: string;
  readonly packedBytes: number;
  readonly unpackedBytes: number;
  readonly files: readonly string[];
}

/** Packs every package into a folder, and checks it by publint and attw. */
export function pack(into: string): readonly Packed[] {
  const packed: Packed[] = [];
  for (const folder of readdirSync(join(root, 'packages'))) {
    const source = join(root, 'packages', folder);
    if (!existsSync(join(source, 'package.json'))) continue;
    cpSync(join(root, 'LICENSE'), join(source, 'LICENSE'));
    try {
      execFileSync(join(root, 'node_modules', '.bin', 'publint'), ['--strict', source], { stdio: 'inherit' });
      const printed = execFileSync('npm', ['pack', '--json', '--pack-destination', into], {
        cwd: source,
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
      });
      packed.push(described(folder, into, JSON.parse(printed)));
    } finally {
      rmSync(join(source, 'LICENSE'));
    }
  }
  for (const { tarball } of packed)
    execFileSync(join(root, 'node_modules', '.bin', 'attw'), ['--quiet', '--profile', 'esm-only', tarball], { stdio: 'inherit' });
  return packed;
}

interface NpmPack {
  readonly name: string;
  readonly version: string;
  readonly filename: string;
  readonly size: number;
  readonly unpackedSize: number;
  readonly files: readonly { readonly path: string }[];
}

/** npm prints a list, or from version 11 on an object by name. */
function described(folder: string, into: string, printed: unknown): Packed {
  const [entry] = (Array.isArray(printed) ? printed : Object.values(printed as object)) as NpmPack[];
  if (!entry) throw new Error(`npm pack printed nothing for ${folder}`);
  const files = entry.files.map(({ path }) => path);
  const strays = files.filter((path) => !/^(dist|bin|deploy)\/|^(README\.md|LICENSE|package\.json|CHANGELOG\.md)$/.test(path));
  const missing = ['README.md', 'LICENSE', 'package.json'].filter((path) => !files.includes(path));
  if (strays.length > 0 || missing.length > 0)
    throw new Error(`The tarball of ${entry.name} has ${strays.join(', ') || 'no strays'} and lacks ${missing.join(', ') || 'nothing'}.`);
  return {
    folder,
    name: entry.name,
    version: entry.version,
    tarball: join(into, entry.filename.replace('@', '').replace('/', '-')),
    packedBytes: entry.size,
    unpackedBytes: entry.unpackedSize,
    files,
  };
}
