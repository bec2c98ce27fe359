import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { gzipSync } from 'node:zlib';

/**
 * How a request is answered:
 * - `ok`: 200 `success`
 * - `hang`: accepts and never answers; `drip-headers`, `drip-body`: a byte now and then, for ever
 * - `endless`: a body that never ends, as fast as it is read; `huge-headers`: a head of 64 KiB
 * - `gzip-bomb`: 10 MiB of zeros, compressed, though nobody asked for it
 * - `redirect-metadata`: to a cloud's metadata service; `redirect-self`: to another path of this receiver
 * - `reset`: closes before it answers; `reset-in-body`: after half of the body
 * - `lost-ack`: takes the request, and closes without an answer
 * - a number: that status; a function: whatever it does
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
/** What a receiver does with a request: a name of {@link behaviors}, a status, or a function. */
export type Behavior = (typeof behaviors)[number] | number | ((request: ReceivedRequest, response: ServerResponse) => void);

/** A request that arrived whole. */
export interface ReceivedRequest {
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
  /** Monotonic, in ms. */
  readonly at: number;
}

/** A receiver of webhooks that does as it is told. */
export interface HostileReceiver extends AsyncDisposable {
  readonly url: string;
  readonly port: number;
  readonly requests: ReceivedRequest[];
  /** Connections that were ever made. */
  readonly connections: number;
  /** What it does from now on; a list is worked off, and its last stays. */
  behave(...script: readonly [Behavior, ...Behavior[]]): void;
  /** Ends every connection, and takes no more. */
  close(): Promise<void>;
}

/** Starts one on a free port. @param host default `127.0.0.1` */
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
  // The other side went away: that is what it is for.
}
