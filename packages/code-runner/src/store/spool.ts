import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type FileHandle, mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { LimitExceededError, UploadCutError } from '../errors.ts';

/** A content that was received completely. */
export interface Spooled extends AsyncDisposable {
  /** SHA-256, in hex. */
  readonly hash: string;
  readonly size: number;
  /** Returns the bytes of a small content, or a new stream at each call. */
  content(): Uint8Array | Readable;
}

/** The content of a file: text, bytes, or a stream of them. */
export type Content = string | Uint8Array | AsyncIterable<Uint8Array | string>;

/** Contents up to this size stay in memory; larger ones are kept in a temporary file until their digest is known. */
const inMemory = 1_048_576;

/**
 * Receives a content of unknown length.
 * @throws LimitExceededError above `limit` bytes, UploadCutError if the content breaks off
 */
export async function spool(content: Content, limit: number, what: string): Promise<Spooled> {
  if (typeof content === 'string' || content instanceof Uint8Array) {
    const bytes = typeof content === 'string' ? Buffer.from(content) : content;
    if (bytes.length > limit) throw tooLarge(what, limit);
    return { hash: sha256(bytes), size: bytes.length, content: () => bytes, [Symbol.asyncDispose]: async () => undefined };
  }
  const hash = createHash('sha256');
  const chunks: Uint8Array[] = [];
  let size = 0;
  let folder: string | undefined;
  let file: FileHandle | undefined;
  const dispose = async (): Promise<void> => {
    await file?.close();
    file = undefined;
    if (folder !== undefined) await rm(folder, { recursive: true, force: true });
  };
  try {
    for await (const piece of content) {
      const chunk = typeof piece === 'string' ? Buffer.from(piece) : piece;
      size += chunk.length;
      if (size > limit) throw tooLarge(what, limit);
      hash.update(chunk);
      chunks.push(chunk);
      if (size <= inMemory) continue;
      folder ??= await mkdtemp(join(tmpdir(), 'holdfast-spool-'));
      file ??= await open(join(folder, 'content'), 'wx', 0o600);
      await file.writev(chunks.splice(0));
    }
    await file?.close();
    file = undefined;
  } catch (error) {
    await dispose();
    if (LimitExceededError.is(error, 'limit-exceeded')) throw error;
    throw new UploadCutError(
      `The content of ${what} broke off after ${size} bytes: ${(error as Error).message}. Nothing was stored; send it again.`,
      error,
    );
  }
  const bytes = folder === undefined ? Buffer.concat(chunks) : undefined;
  return {
    hash: hash.digest('hex'),
    size,
    content: () => bytes ?? createReadStream(join(folder as string, 'content')),
    [Symbol.asyncDispose]: dispose,
  };
}

export function sha256(content: Uint8Array | string): string {
  return createHash('sha256').update(content).digest('hex');
}

function tooLarge(what: string, limit: number): LimitExceededError {
  return new LimitExceededError(`${what} has more than ${limit} bytes, which is the limit. Nothing was stored.`);
}
