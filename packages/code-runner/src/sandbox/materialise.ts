import { createWriteStream, mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';

/** Writes the files of a run, readable for everybody. Contents in memory are written synchronously, which saves waking a thread. */
export async function materialise(
  folder: string,
  files: readonly { readonly path: string; readonly open: () => Promise<Readable | Uint8Array> }[],
): Promise<void> {
  mkdirSync(folder, { recursive: true, mode: 0o755 });
  const made = new Set([folder]);
  for (const { path, open } of files) {
    const target = join(folder, path);
    const parent = dirname(target);
    if (!made.has(parent)) mkdirSync(parent, { recursive: true, mode: 0o755 });
    made.add(parent);
    const content = await open();
    if (content instanceof Uint8Array) writeFileSync(target, content, { mode: 0o644 });
    else await pipeline(content, createWriteStream(target, { mode: 0o644 }));
  }
}
