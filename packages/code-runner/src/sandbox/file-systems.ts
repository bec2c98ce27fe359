import { type StatsFs, statfsSync } from 'node:fs';

/** The file systems of a sandbox that are in memory. */
const inMemory = ['/scratch', '/tmp', '/out', '/dev/shm'];

/** Returns the path outside of a path in the sandbox; `undefined` if the sandbox is gone, or its files are not in memory. */
type Inside = (path: string) => string | undefined;

/** The first of the file systems in which nothing is free. */
export function fullFolder(inside: Inside): string | undefined {
  return inMemory.find((folder) => statOf(folder, inside)?.bavail === 0);
}

/** Bytes of all files in them. */
export function fileBytes(inside: Inside): number {
  return inMemory.reduce((bytes, folder) => {
    const found = statOf(folder, inside);
    return found === undefined ? bytes : bytes + (found.blocks - found.bfree) * found.bsize;
  }, 0);
}

function statOf(folder: string, inside: Inside): StatsFs | undefined {
  const path = inside(folder);
  try {
    return path === undefined ? undefined : statfsSync(path);
  } catch {
    return undefined;
  }
}
