import { once } from 'node:events';
import type { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { createGunzip, createGzip } from 'node:zlib';
import { extract, pack } from 'tar-stream';
import { filePath } from '../files/path.ts';

export interface Packed {
  readonly path: string;
  readonly content: Buffer;
}

/** Packs files into a compressed tar archive, which the language's own image unpacks. */
export async function packFiles(
  files: readonly { readonly path: string; readonly open: () => Promise<Readable | Uint8Array> }[],
): Promise<Buffer> {
  const archive = pack();
  const whole = buffer(archive.pipe(createGzip({ level: 6 })));
  for (const { path, open } of files) {
    const opened = await open();
    const content = opened instanceof Uint8Array ? Buffer.from(opened) : await buffer(opened);
    if (!archive.entry({ name: path, mode: 0o644, mtime: new Date(0) }, content)) await once(archive, 'drain');
  }
  archive.finalize();
  return whole;
}

/** Returns the regular files of an archive, up to `limit` bytes. Others, and names that are not valid in a task, are left out. */
export async function unpackFiles(
  archive: Buffer,
  limit: number,
): Promise<{ readonly files: readonly Packed[]; readonly truncated: boolean }> {
  const files: Packed[] = [];
  let left = limit;
  let truncated = false;
  const unzipped = createGunzip();
  const entries = unzipped.pipe(extract());
  let inflated = 0;
  // Stops at an archive that inflates far beyond the limit, even if the bytes would only be dropped.
  unzipped.on('data', (chunk: Buffer) => {
    inflated += chunk.length;
    if (inflated > limit * 2 + 2 ** 24) unzipped.destroy(new Error('the archive inflates to too many bytes'));
  });
  unzipped.on('error', (error) => entries.destroy(error));
  unzipped.end(archive);
  try {
    for await (const entry of entries) {
      const { name, type, size = 0 } = entry.header;
      const path = name.replace(/^\.\//, '');
      if (type !== 'file' || !isPath(path) || size > left) {
        truncated ||= type === 'file' && size > left;
        entry.resume();
        continue;
      }
      const content = await buffer(entry);
      left -= content.length;
      files.push({ path, content });
    }
  } catch {
    // The archive was cut at its limit: complete files count.
    truncated = true;
  }
  return { files, truncated };
}

function isPath(path: string): boolean {
  try {
    return filePath(path) === path;
  } catch {
    return false;
  }
}
