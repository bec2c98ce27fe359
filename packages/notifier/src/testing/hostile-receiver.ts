import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { gzipSync } from 'node:zlib';

/**
 * Ways to answer a request:
 * - `ok`: 200 `success`
 * - `hang`: accepts and never answers; `drip-headers`, `drip-body`: sends a few bytes every 100 ms, for ever
 * - `endless`: sends a body that never ends, as fast as it is read; `huge-headers`: sends 64 KiB of headers
 * - `gzip-bomb`: sends 10 MiB of zeros, compressed, although the request did not ask for compression
 * - `redirect-metadata`: redirects to a cloud's metadata service; `redirect-self`: redirects to another path of this receiver
 * - `reset`: closes the connection before it answers; `reset-in-body`: closes it within the body
 * - `lost-ack`: receives the request and closes the connection without an answer
 * - a number: answers with that status; a function: answers as it likes
 */
export const behaviors = [
  'ok',
  'hang',
  'drip-headers',
  'drip-body',
  'endless',
  'huge-headers',
  'gzip-bomb',
  'redirect-metadata',
  'redirect-self',
  'reset',
  'reset-in-body',
  'lost-ack',
] as const;
/** The way in which a receiver answers a request: a name from {@link behaviors}, a status, or a function. */
export type Behavior = (typeof behaviors)[number] | number | ((request: ReceivedRequest, response: ServerResponse) => void);

/** A request that arrived completely. */
export interface ReceivedRequest {
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
  /** Time of arrival by the monotonic clock, in ms. */
  readonly at: number;
}

/** A receiver of webhooks that misbehaves as a test tells it to. */
export interface HostileReceiver extends AsyncDisposable {
  readonly url: string;
  readonly port: number;
  readonly requests: ReceivedRequest[];
  /** Number of connections made so far. */
  readonly connections: number;
  /** Sets the answers from now on: one behavior per request; the last one stays. */
  behave(...script: readonly [Behavior, ...Behavior[]]): void;
  /** Closes every connection and stops listening. */
  close(): Promise<void>;
}

/** Starts a receiver on a free port. @param host address to listen on; default `127.0.0.1` */
export async function hostileReceiver(script: Behavior | readonly Behavior[] = 'ok', host: string = '127.0.0.1'): Promise<HostileReceiver> {
  const sockets = new Set<Socket>();
  const timers = new Set<NodeJS.Timeout>();
  const requests: ReceivedRequest[] = [];
  let behavior: readonly Behavior[] = typeof script === 'object' ? script : [script];
  let connections = 0;
  const every = (socket: Socket, ms: number, fn: () => void): void => {
    const timer = setInterval(fn, ms);
    timers.add(timer);
    socket.once('close', () => {
      clearInterval(timer);
      timers.delete(timer);
    });
  };
  const server = createServer((request, response) => {
    response.on('error', ignore);
    void readBody(request).then((body) => {
      const received = { path: request.url ?? '/', headers: request.headers, body, at: performance.now() };
      requests.push(received);
      const now = behavior[0] ?? 'ok';
      if (behavior.length > 1) behavior = behavior.slice(1);
      answer(now, received, response, request.socket, every);
    }, ignore);
  });
  server.on('connection', (socket) => {
    connections += 1;
    sockets.add(socket);
    socket.on('error', ignore);
    socket.once('close', () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  const { port } = server.address() as AddressInfo;
  const close = async (): Promise<void> => {
    for (const timer of timers) clearInterval(timer);
    for (const socket of sockets) socket.destroy();
    await new Promise<void>((resolve) => server.close(() => resolve()));
  };
  return {
    url: `http://${host.includes(':') ? `[${host}]` : host}:${port}/hook`,
    port,
    requests,
    get connections() {
      return connections;
    },
    behave(...next) {
      behavior = next;
    },
    close,
    [Symbol.asyncDispose]: close,
  };
}

function answer(
  behavior: Behavior,
  request: ReceivedRequest,
  response: ServerResponse,
  socket: Socket,
  every: (socket: Socket, ms: number, fn: () => void) => void,
): void {
  if (typeof behavior === 'function') behavior(request, response);
  else if (typeof behavior === 'number') response.writeHead(behavior).end(behavior < 300 ? 'success' : 'no');
  else {
    switch (behavior) {
      case 'ok':
        response.end('success');
        break;
      case 'hang':
        break;
      case 'drip-headers':
        socket.write('HTTP/1.1 200 OK\r\n');
        every(socket, 100, () => socket.write('x: y\r\n'));
        break;
      case 'drip-body':
        response.writeHead(200);
        every(socket, 100, () => response.write('s'));
        break;
      case 'endless': {
        response.writeHead(200);
        const chunk = Buffer.alloc(65_536, 'x');
        const more = (): void => {
          while (!response.destroyed && response.write(chunk));
        };
        response.on('drain', more);
        more();
        break;
      }
      case 'huge-headers':
        socket.write(`HTTP/1.1 200 OK\r\nx: ${'y'.repeat(65_536)}\r\ncontent-length: 7\r\n\r\nsuccess`);
        break;
      case 'gzip-bomb':
        response.writeHead(200, { 'content-encoding': 'gzip' }).end(gzipSync(Buffer.alloc(10 * 2 ** 20)));
        break;
      case 'redirect-metadata':
        response.writeHead(302, { location: 'http://169.254.169.254/latest/meta-data/' }).end();
        break;
      case 'redirect-self':
        response.writeHead(307, { location: '/elsewhere' }).end();
        break;
      case 'reset':
      case 'lost-ack':
        socket.destroy();
        break;
      case 'reset-in-body':
        response.writeHead(200, { 'content-length': '100' });
        response.write('succ', () => socket.destroy());
        break;
    }
  }
}

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString('utf8');
}

function ignore(): void {
  // The other side closed the connection, as these tests want.
}
