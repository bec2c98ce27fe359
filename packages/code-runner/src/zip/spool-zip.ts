import { createWriteStream } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { LimitExceededError, UploadCutError } from '../errors.ts';
import type { Content } from '../store/spool.ts';

/** Writes an archive to a temporary file, since its directory is at its end. @throws LimitExceededError, UploadCutError */
export async function spoolZip(archive: Content, limit: number): Promise<{ readonly path: string } & AsyncDisposable> {
  const folder = await mkdtemp(join(tmpdir(), 'holdfast-zip-'));
  const path = join(folder, 'archive.zip');
  let bytes = 0;
  const source = typeof archive === 'string' || archive instanceof Uint8Array ? [archive] : archive;
  try {
    await pipeline(
      Readable.from(source),
      async function* (chunks) {
        for await (const chunk of chunks as AsyncIterable<Uint8Array>) {
          bytes += chunk.length;
          if (bytes > limit)
            throw new LimitExceededError(`The archive has more than ${limit} bytes, which is the limit. Nothing was stored.`);
          yield chunk;
        }
      },
      createWriteStream(path, { mode: 0o600 }),
    );
  } catch (error) {
    await rm(folder, { recursive: true, force: true });
    if (LimitExceededError.is(error, 'limit-exceeded')) throw error;
    throw new UploadCutError(
      `The archive broke off after ${bytes} bytes: ${(error as Error).message}. Nothing was stored; send it again.`,
      error,
    );
  }
  return { path, [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }) };
}
