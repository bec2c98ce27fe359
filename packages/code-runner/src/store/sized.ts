import type { Readable } from 'node:stream';
import { UploadCutError } from '../errors.ts';

/** Passes a content on, and checks that it has exactly `size` bytes. @throws UploadCutError */
export async function* sized(content: Uint8Array | Readable, size: number, what: string): AsyncGenerator<Uint8Array> {
  let bytes = 0;
  const chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array> = content instanceof Uint8Array ? [content] : content;
  for await (const chunk of chunks) {
    bytes += chunk.length;
    if (chunk.length > 0) yield chunk;
  }
  if (bytes !== size) throw new UploadCutError(`The content of ${what} has ${bytes} bytes instead of ${size}. Send it again.`);
}
