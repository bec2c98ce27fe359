import { Readable } from 'node:stream';
import { crc32 } from 'node:zlib';
import yauzl, { type Entry, type ZipFile } from 'yauzl';
import { InvalidZipError } from '../errors.ts';
import { filePath, foldedPath, foldersOf } from '../files/path.ts';

export interface ZipLimits {
  /** Default 10,000. */
  readonly entries?: number;
  /** Bytes of one file, inflated. Default 16 MiB. */
  readonly fileBytes?: number;
  /** Bytes of all files, inflated. Default 1 GiB. */
  readonly totalBytes?: number;
  /** How many times as large as it was a file may get; of those above 1 MiB. Default 100. */
  readonly ratio?: number;
}

export interface ZipEntry {
  readonly path: string;
  /** What the archive says, and what more than that is refused. */
  readonly size: number;
  /** The content, inflated; it fails where it is more, less or other than the archive says. */
  open(): Promise<Readable>;
}

const ratioCounts = 1_048_576;
/** Kinds of files in the upper half of the attributes that Unix writes. */
const kinds: Readonly<Record<number, string>> = {
  4096: 'a pipe',
  8192: 'a device',
  24576: 'a device',
  40960: 'a symbolic link',
  49152: 'a socket',
};

/**
 * The files of an archive, given whole or by its path, in its order. All names and sizes are judged before the first file is handed over: an archive is taken or
 * refused as a whole. Folders are skipped, they exist through their files.
 * @throws InvalidZipError, InvalidPathError
 */
export async function readZip(
  archive: Buffer | string,
  limits: ZipLimits = {},
): Promise<{ readonly entries: readonly ZipEntry[]; close(): void }> {
  const { entries: most = 10_000, fileBytes = 16 * 2 ** 20, totalBytes = 2 ** 30, ratio = 100 } = limits;
  // Names are judged by our own rules: strict, or backslashes were turned into slashes.
  const options = { autoClose: false, lazyEntries: true, strictFileNames: true, validateEntrySizes: true } as const;
  const opening = typeof archive === 'string' ? yauzl.openPromise(archive, options) : yauzl.fromBufferPromise(archive, options);
  const zip = await opening.catch((cause) => {
    throw new InvalidZipError(`This is no zip archive that can be read: ${(cause as Error).message}.`);
  });
  const found: ZipEntry[] = [];
  const files = new Map<string, string>();
  const folders = new Set<string>();
  let [total, packed] = [0, 0];
  try {
    if (zip.entryCount > most) throw new InvalidZipError(`The archive has ${zip.entryCount} entries; at most ${most} are taken.`);
    for await (const entry of entriesOf(zip)) {
      const name = entry.fileName;
      if (entry.isEncrypted()) throw new InvalidZipError(`${name} is encrypted; pack it without a password.`);
      const kind = kinds[(entry.externalFileAttributes >>> 16) & 0xf000];
      if (kind) throw new InvalidZipError(`${name} is ${kind}; only files and folders are taken.`);
      const path = filePath(name.endsWith('/') ? name.slice(0, -1) : name);
      for (const folder of foldersOf(path)) folders.add(foldedPath(folder));
      if (name.endsWith('/')) {
        folders.add(foldedPath(path));
        continue;
      }
      const known = files.get(foldedPath(path));
      if (known !== undefined)
        throw new InvalidZipError(
          known === path ? `${path} is in the archive twice.` : `${path} and ${known} differ in upper and lower case only.`,
        );
      files.set(foldedPath(path), path);
      const { compressedSize, uncompressedSize: size } = entry;
      if (size > fileBytes) throw new InvalidZipError(`${path} has ${size} bytes; at most ${fileBytes} are taken.`);
      if (size > ratioCounts && size > compressedSize * ratio)
        throw new InvalidZipError(
          `${path} would get ${Math.round(size / Math.max(1, compressedSize))} times as large as it is packed; at most ${ratio} times is taken.`,
        );
      total += size;
      packed += compressedSize;
      if (total > totalBytes) throw new InvalidZipError(`The files have more than ${totalBytes} bytes together.`);
      found.push({ path, size, open: () => opened(zip, path, entry) });
    }
    // Entries that share their bytes: a small archive that says to be a large one.
    if (packed > zip.fileSize) throw new InvalidZipError('The entries say to be larger than the archive: they overlap.');
    for (const [folded, path] of files) if (folders.has(folded)) throw new InvalidZipError(`${path} is a file and a folder.`);
  } catch (error) {
    zip.close();
    throw error;
  }
  return { entries: found, close: () => zip.close() };
}

async function opened(zip: ZipFile, path: string, entry: Entry): Promise<Readable> {
  try {
    return checked(path, entry, await zip.openReadStreamPromise(entry));
  } catch (error) {
    throw new InvalidZipError(`${path} is broken in the archive: ${(error as Error).message}.`);
  }
}

/** The reader checks how many bytes there are; this checks that they are those. */
function checked(path: string, entry: Entry, content: Readable): Readable {
  return Readable.from(
    (async function* () {
      let sum = 0;
      try {
        for await (const chunk of content as AsyncIterable<Buffer>) {
          sum = crc32(chunk, sum);
          yield chunk;
        }
      } catch (error) {
        throw new InvalidZipError(`${path} is broken in the archive: ${(error as Error).message}.`);
      }
      if (sum !== entry.crc32) throw new InvalidZipError(`${path} is broken in the archive: its checksum is another.`);
    })(),
    { objectMode: false },
  );
}

async function* entriesOf(zip: ZipFile): AsyncGenerator<Entry> {
  try {
    for await (const entry of zip.eachEntry()) yield entry;
  } catch (error) {
    if (error instanceof InvalidZipError) throw error;
    throw new InvalidZipError(`The archive can't be read: ${(error as Error).message}.`);
  }
}
