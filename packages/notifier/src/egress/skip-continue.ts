import type { Socket } from 'node:net';

/** What an interim response begins with, up to its status; but 101, which is the last word of HTTP on a connection. */
const interim = /^HTTP\/1\.[01] 1(?!01)\d\d/;
const interimBytes = 12;
/** Interim responses beyond these bytes are not skipped, and end the connection. */
const skippedAtMost = 16_384;

/**
 * Takes interim responses out of what is read from a connection. Receivers, and proxies before them, send `100 Continue` unasked, which RFC 9110
 * section 15.2 has a client ignore; undici ends the connection instead (UND_ERR_SOCKET).
 *
 * Returns a function to be called before each request after the first: only the start of a response is looked at.
 */
export function skipContinue(socket: Pick<Socket, 'read'>): () => void {
  const read = socket.read.bind(socket) as () => Buffer | null;
  /** The bytes of a start that is not complete; `undefined` within a response. */
  let start: Buffer | undefined = Buffer.alloc(0);
  let bytes = 0;
  socket.read = (): Buffer | null => {
    for (;;) {
      const chunk = read();
      if (start === undefined || chunk === null) return chunk;
      bytes += chunk.length;
      const { rest, undecided } = afterInterim(start.length === 0 ? chunk : Buffer.concat([start, chunk]));
      start = undecided && bytes <= skippedAtMost ? rest : undefined;
      if (start === undefined && rest.length > 0) return rest;
    }
  };
  return () => {
    start = Buffer.alloc(0);
    bytes = 0;
  };
}

/** What follows after any number of interim responses, and whether more has to be read before it is known what it is. */
function afterInterim(bytes: Buffer): { readonly rest: Buffer; readonly undecided: boolean } {
  for (let at = 0; ; ) {
    const rest = bytes.subarray(at);
    if (rest.length < interimBytes) return { rest, undecided: true };
    if (!interim.test(rest.toString('latin1', 0, interimBytes))) return { rest, undecided: false };
    const end = rest.indexOf('\r\n\r\n');
    if (end < 0) return { rest, undecided: true };
    at += end + 4;
  }
}
