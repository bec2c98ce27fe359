import type { Readable } from 'node:stream';
import { ZipFile } from 'yazl';

export interface ZipContent {
  readonly path: string;
  /** Called when the file is next, so that one file is open at a time. */
  readonly open: () => Promise<Readable>;
}

/** Packs files into an archive while it is read. */
export function writeZip(files: Iterable<ZipContent>, at: Date): Readable {
  const zip = new ZipFile();
  const output = zip.outputStream as unknown as Readable;
  zip.on('error', (error) => output.destroy(error as Error));
  for (const { path, open } of files)
    zip.addReadStreamLazy(path, { mtime: at, mode: 0o100644 }, (callback) => {
      open().then(
        (stream) => callback(null, stream),
        (error) => callback(error as Error, undefined as never),
      );
    });
  zip.end();
  return output;
}
