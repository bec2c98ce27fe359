import type { IncomingMessage } from 'node:http';
import { BodyTooLargeError, MalformedBodyError } from './errors.ts';

/** The largest JSON body unless a limit is given: 1 MiB. */
export const defaultMaxBodyBytes = 1_048_576;

/** A request of the Fetch standard, or of `node:http` as frameworks such as Fastify and Express hand it on. */
export type BodySource = Request | IncomingMessage;

/**
 * Reads a body of at most `maxBytes` into memory. A larger body is refused as soon as that is known: by its `content-length` before
 * anything is read, else (a chunked body) after the first bytes beyond the limit. Nothing more is read then.
 * @throws BodyTooLargeError, or MalformedBodyError if the body is cut off
 */
export async function readBody(source: BodySource, maxBytes: number = defaultMaxBodyBytes): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  try {
    for await (const chunk of bodyChunks(source, maxBytes)) chunks.push(chunk);
  } catch (error) {
    if (BodyTooLargeError.is(error, 'body-too-large')) throw error;
    throw new MalformedBodyError(`The body was cut off: ${(error as Error).message}. Send it again.`, error);
  }
  return Buffer.concat(chunks);
}

/** The chunks of a body as they arrive. @throws BodyTooLargeError beyond `maxBytes` */
export async function* bodyChunks(source: BodySource, maxBytes: number): AsyncGenerator<Uint8Array> {
  const declaredBytes = Number(headerOf(source, 'content-length') ?? 0);
  if (declaredBytes > maxBytes) throw new BodyTooLargeError(`The body has ${declaredBytes} bytes; the limit is ${maxBytes}.`);
  let bytes = 0;
  for await (const chunk of openChunks(source)) {
    bytes += chunk.byteLength;
    if (bytes > maxBytes) throw new BodyTooLargeError(`The body has more than ${maxBytes} bytes, which is the limit.`);
    yield chunk;
  }
}

/** Returns whether the headers of a request announce a body. */
export function announcesBody(source: BodySource): boolean {
  return Number(headerOf(source, 'content-length') ?? 0) > 0 || headerOf(source, 'transfer-encoding') !== undefined;
}

/** A reader that stops early leaves the stream open: it belongs to the server, which still has to send the answer over its connection. */
function openChunks(source: BodySource): AsyncIterable<Uint8Array> {
  if (!('body' in source) || !(source.headers instanceof Headers)) return (source as IncomingMessage).iterator({ destroyOnReturn: false });
  const body = source.body as import('node:stream/web').ReadableStream<Uint8Array> | null;
  return body?.values({ preventCancel: true }) ?? nothing();
}

async function* nothing(): AsyncGenerator<Uint8Array> {}

function headerOf({ headers }: BodySource, name: 'content-length' | 'transfer-encoding'): string | undefined {
  return headers instanceof Headers ? (headers.get(name) ?? undefined) : headers[name];
}
