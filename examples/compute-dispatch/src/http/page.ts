import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';

const here = join(import.meta.dirname, '..', '..');
const source = join(here, 'web');
const built = join(here, 'data', 'page');

/** Builds the page, unless its sources are unchanged. Returns the folder with the built page. */
export async function buildPage(): Promise<string> {
  const hash = createHash('sha256').update(readFileSync(join(here, 'package.json')));
  const files = readdirSync(source, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  for (const path of files.map(({ parentPath, name }) => join(parentPath, name)).sort())
    hash.update(path.slice(source.length)).update(readFileSync(path));
  const folder = join(built, hash.digest('hex').slice(0, 16));
  if (existsSync(join(folder, 'index.html'))) return folder;
  const { build } = await import('vite');
  mkdirSync(built, { recursive: true });
  const temporary = join(built, `new-${process.pid}`);
  await build({
    root: source,
    base: './',
    logLevel: 'warn',
    configFile: false,
    oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
    // Nothing inline: the content security policy allows only files of this server.
    build: {
      outDir: temporary,
      emptyOutDir: true,
      assetsInlineLimit: 0,
      modulePreload: { polyfill: false },
      target: 'es2023',
      chunkSizeWarningLimit: 2_000,
    },
  });
  // If two processes build at once, the second finds the folder of the first, which has the same content.
  try {
    renameSync(temporary, folder);
  } catch {
    rmSync(temporary, { recursive: true, force: true });
  }
  for (const old of readdirSync(built))
    if (join(built, old) !== folder && !old.startsWith('new-')) rmSync(join(built, old), { recursive: true, force: true });
  return folder;
}
