import { existsSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'tsdown';
import { root } from './paths.ts';

/** Builds `dist` of every package, from the entries in its exports map. */
export async function buildPackages(): Promise<void> {
  for (const name of readdirSync(join(root, 'packages'))) {
    const folder = join(root, 'packages', name);
    if (!existsSync(join(folder, 'package.json'))) continue;
    rmSync(join(folder, 'dist'), { recursive: true, force: true });
    const { default: manifest } = (await import(join(folder, 'package.json'), { with: { type: 'json' } })) as {
      default: { exports: Record<string, string | { '@holdfast/source'?: string }>; bin?: Record<string, string> };
    };
    const sources = Object.values(manifest.exports).flatMap((target) =>
      typeof target === 'object' && target['@holdfast/source'] ? [target['@holdfast/source']] : [],
    );
    if (manifest.bin) sources.push('./src/cli/main.ts');
    await build({
      cwd: folder,
      config: false,
      entry: Object.fromEntries(sources.map((source) => [source.replace('./src/', '').replace(/\.ts$/, ''), source])),
      format: 'esm',
      platform: 'node',
      target: 'node22',
      fixedExtension: false,
      dts: { oxc: true },
      logLevel: 'warn',
    });
  }
}

if (process.argv[1] === import.meta.filename) await buildPackages();
