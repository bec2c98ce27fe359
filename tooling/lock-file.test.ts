import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { root } from './paths.ts';

interface Entry {
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

const { packages } = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as { packages: Readonly<Record<string, Entry>> };

/** Returns whether Node would find the package from the folder: in its own `node_modules`, or in one further up. */
function found(folder: string, name: string): boolean {
  if (`${folder === '' ? '' : `${folder}/`}node_modules/${name}` in packages) return true;
  if (folder === '') return false;
  return found(folder.includes('/') ? folder.slice(0, folder.lastIndexOf('/')) : '', name);
}

it('locks every package of every platform, or `npm ci` refuses it and `npm install` writes to it', () => {
  const absent = Object.entries(packages).flatMap(([folder, { dependencies, optionalDependencies }]) =>
    Object.keys({ ...dependencies, ...optionalDependencies })
      .filter((name) => !found(folder, name))
      .map((name) => `${name} of ${folder || 'the root'}`),
  );
  expect(absent).toEqual([]);
});
