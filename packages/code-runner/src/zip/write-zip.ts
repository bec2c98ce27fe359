import type { Readable } from 'node:stream';
import { ZipFile } from 'yazl';

export interface ZipContent {
  readonly path: string;
  /** Called when the file is next, so that one file is open at a time. */
  readonly open: () => Promise<Readable>;
}

/**
 * Packs files into an archive while it is read. A file that cannot be read ends the archive with its error; a reader that leaves closes
 * the file that is open. yazl does neither: an error of a file would be one that nobody listens to, which ends the process.
 */
export function writeZip(files: Iterable<ZipContent>, at: Date): Readable {
  const zip = new ZipFile();
  const output = zip.outputStream as unknown as Readable;
  let reading: Readable | undefined;
  zip.on('error', (error) => output.destroy(error as Error));
  output.once('close', () => reading?.destroy());
  for (const { path, open } of files)
    zip.addReadStreamLazy(path, { mtime: at, mode: 0o100644 }, (callback) => {
      open().then(
        (stream) => {
          reading = stream.on('error', (error) => output.destroy(error));
          if (output.destroyed) stream.destroy();
          else callback(null, stream);
        },
        (error) => callback(error as Error, undefined as never),
      );
    });
  zip.end();
  return output;
}
