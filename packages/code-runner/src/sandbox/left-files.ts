import { constants, lstatSync, readdirSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import type { OutputFile } from '../executor/executor.ts';
import { filePath } from '../files/path.ts';

/** Yields the regular files below a folder. Links and names that are not valid in a task are left out. */
export async function* leftFiles(root: string, folder = ''): AsyncGenerator<OutputFile> {
  let names: string[];
  try {
    names = readdirSync(join(root, folder)).sort();
  } catch {
    return;
  }
  for (const name of names) {
    const path = folder === '' ? name : `${folder}/${name}`;
    try {
      if (filePath(path) !== path) continue;
    } catch {
      continue;
    }
    const found = lstatSync(join(root, path), { throwIfNoEntry: false });
    if (found?.isDirectory()) yield* leftFiles(root, path);
    if (!found?.isFile()) continue;
    // A service that is not root can't open a file that the program has made unreadable.
    const file = await open(join(root, path), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK).catch(() => undefined);
    if (file) yield { path, size: found.size, content: file.createReadStream(found.size > 0 ? { end: found.size - 1 } : {}) };
  }
}
