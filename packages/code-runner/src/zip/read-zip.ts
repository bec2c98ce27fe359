import { Readable } from 'node:stream';
import { crc32 } from 'node:zlib';
import yauzl, { type Entry, type ZipFile } from 'yauzl';
import { InvalidZipError } from '../errors.ts';
import { filePath, foldedPath, foldersOf } from '../files/path.ts';

export interface ZipLimits {
  /** Number of entries. Default 10,000. */
  readonly entries?: number;
  /** Bytes of one file, inflated. Default 16 MiB. */
  readonly fileBytes?: number;
  /** Bytes of all files, inflated. Default 1 GiB. */
  readonly totalBytes?: number;
  /** Highest ratio of inflated to packed size, for files above 1 MiB. Default 100. */
  readonly ratio?: number;
}

export interface ZipEntry {
  readonly path: string;
  /** The size that the archive states; reading more fails. */
  readonly size: number;
  /** Opens the inflated content. The stream fails if size or checksum differ from those in the archive. */
  open(): Promise<Readable>;
}

const ratioCounts = 1_048_576;
/** File types in the upper half of the attributes that Unix tools write. */
const kinds: Readonly<Record<number, string>> = {
  4096: 'a pipe',
  8192: 'a device',
  24576: 'a device',
  40960: 'a symbolic link',
  49152: 'a socket',
};

/**
 * Returns the files of an archive, which is given as bytes or by its path. All names and sizes are checked first: an archive is accepted
 * or refused as a whole. Folders are skipped, since they exist through their files.
 * @throws InvalidZipError, InvalidPathError
 */
export async function readZip(
  archive: Buffer | string,
  limits: ZipLimits = {},
): Promise<{ readonly entries: readonly ZipEntry[]; close(): void }> {
  const { entries: most = 10_000, fileBytes = 16 * 2 ** 20, totalBytes = 2 ** 30, ratio = 100 } = limits;
  // Strict, or the reader would turn backslashes into slashes; filePath then checks the names.
  const options = { autoClose: false, lazyEntries: true, strictFileNames: true, validateEntrySizes: true } as const;
  const opening = typeof archive === 'string' ? yauzl.openPromise(archive, options) : yauzl.fromBufferPromise(archive, options);
  const zip = await opening.catch((cause) => {
    throw new InvalidZipError(`The content is not a readable zip archive: ${(cause as Error).message}.`);
  });
  const found: ZipEntry[] = [];
  const files = new Map<string, string>();
  const folders = new Set<string>();
  let [total, packed] = [0, 0];
  try {
    if (zip.entryCount > most) throw new InvalidZipError(`The archive has ${zip.entryCount} entries; at most ${most} are accepted.`);
    for await (const entry of entriesOf(zip)) {
      const name = entry.fileName;
      if (entry.isEncrypted()) throw new InvalidZipError(`${name} is encrypted; pack it without a password.`);
      const kind = kinds[(entry.externalFileAttributes >>> 16) & 0xf000];
      if (kind) throw new InvalidZipError(`${name} is ${kind}; only files and folders are accepted.`);
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
      if (size > fileBytes) throw new InvalidZipError(`${path} has ${size} bytes; at most ${fileBytes} are accepted.`);
      if (size > ratioCounts && size > compressedSize * ratio)
        throw new InvalidZipError(
          `${path} would inflate to ${Math.round(size / Math.max(1, compressedSize))} times its packed size; at most ${ratio} times is accepted.`,
        );
      total += size;
      packed += compressedSize;
      if (total > totalBytes) throw new InvalidZipError(`The files have more than ${totalBytes} bytes together, which is the limit.`);
      found.push({ path, size, open: () => opened(zip, path, entry) });
    }
    // Entries that share bytes make a small archive inflate to a large one.
    if (packed > zip.fileSize) throw new InvalidZipError('The entries are together larger than the archive: they overlap.');
    for (const [folded, path] of files)
      if (folders.has(folded)) throw new InvalidZipError(`${path} is both a file and a folder in the archive.`);
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

/** Checks the checksum while the content is read; the zip reader itself checks only the size. */
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
      if (sum !== entry.crc32) throw new InvalidZipError(`${path} is broken in the archive: its checksum does not match.`);
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
