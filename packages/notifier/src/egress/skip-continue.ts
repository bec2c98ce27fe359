import type { Socket } from 'node:net';

const maxHeadBytes = 16_384;
const starts = ['HTTP/1.1 100', 'HTTP/1.0 100'];

/**
 * Takes `100 Continue` out of what is read from a connection. Receivers, and proxies before them, send it unasked, which RFC 9110 section
 * 15.2 has a client ignore; undici ends the connection instead (UND_ERR_SOCKET). Other interim responses undici skips itself.
 *
 * Returns a function to be called before each request after the first: only the start of a response is looked at.
 */
export function skipContinue(socket: Pick<Socket, 'read'>): () => void {
  const read = socket.read.bind(socket) as () => Buffer | null;
  /** The bytes of a start that is not complete; `undefined` within a response. */
  let start: Buffer | undefined = Buffer.alloc(0);
  socket.read = (): Buffer | null => {
    for (;;) {
      const chunk = read();
      if (start === undefined || chunk === null) return chunk;
      start = start.length === 0 ? chunk : Buffer.concat([start, chunk]);
      const rest = afterContinue(start);
      if (rest === undefined) continue;
      start = undefined;
      return rest;
    }
  };
  return () => {
    start = Buffer.alloc(0);
  };
}

/** What follows after any number of `100 Continue`; `undefined` if more has to be read first. */
function afterContinue(bytes: Buffer): Buffer | undefined {
  let at = 0;
  for (;;) {
    const line = bytes.toString('latin1', at, at + 12);
    if (!starts.some((start) => start.startsWith(line))) return bytes.subarray(at);
    const end = line.length < 12 ? -1 : bytes.indexOf('\r\n\r\n', at);
    if (end < 0) return bytes.length - at > maxHeadBytes ? bytes.subarray(at) : undefined;
    at = end + 4;
  }
}
