import { connect, createServer, type Socket } from 'node:net';

/** The fault that a {@link TcpProxy} causes. `up` is the direction from the client to the server. */
export type ProxyFault = 'none' | 'stall' | 'stall-up' | 'stall-down' | 'refuse';

/** A proxy between a client and a server that breaks connections in the ways that networks do. */
export interface TcpProxy {
  readonly port: number;
  /**
   * Sets the fault. `stall`: bytes are not passed on, in both directions or in one (a half-open connection, an unplugged cable); they flow
   * again after `none`. `refuse`: new connections are reset.
   */
  set(fault: ProxyFault): void;
  /** Resets every open connection. Returns their number. */
  reset(): number;
  /** Ends the server's side of every connection normally, so that the client reads the end of the stream in mid-conversation. */
  halfClose(): number;
  /** Passes `bytes` more of the server's replies on each connection, then resets it: a reply is cut in the middle. */
  cutReplyAfter(bytes: number): void;
  /** Ends every connection, and accepts no new ones. */
  close(): Promise<void>;
}

interface Pair {
  readonly client: Socket;
  readonly server: Socket;
  left: number;
}

/** Starts a proxy on the loopback interface. */
export async function tcpProxy(target: { readonly host: string; readonly port: number }): Promise<TcpProxy> {
  const pairs = new Set<Pair>();
  let fault: ProxyFault = 'none';
  const flow = (): void => {
    for (const { client, server } of pairs) {
      if (fault === 'stall' || fault === 'stall-up') client.pause();
      else client.resume();
      if (fault === 'stall' || fault === 'stall-down') server.pause();
      else server.resume();
    }
  };
  const listener = createServer((client) => {
    if (fault === 'refuse') {
      client.resetAndDestroy();
      return;
    }
    const server = connect(target);
    const pair: Pair = { client, server, left: Number.POSITIVE_INFINITY };
    pairs.add(pair);
    const end = (): void => {
      pairs.delete(pair);
      client.destroy();
      server.destroy();
    };
    for (const socket of [client, server]) {
      socket.on('error', end);
      socket.on('close', end);
    }
    client.on('data', (chunk) => server.write(chunk));
    server.on('data', (chunk) => {
      if (chunk.length <= pair.left) {
        pair.left -= chunk.length;
        client.write(chunk);
        return;
      }
      client.write(chunk.subarray(0, pair.left), () => client.resetAndDestroy());
      server.destroy();
    });
    client.on('end', () => server.end());
    server.on('end', () => client.end());
    flow();
  });
  await new Promise<void>((resolve, reject) => {
    listener.on('error', reject);
    listener.listen(0, '127.0.0.1', resolve);
  });
  const address = listener.address();
  const each = (act: (pair: Pair) => void): number => {
    const all = [...pairs];
    for (const pair of all) act(pair);
    return all.length;
  };
  return {
    port: typeof address === 'object' && address ? address.port : 0,
    set(next) {
      fault = next;
      flow();
    },
    reset: () =>
      each(({ client, server }) => {
        client.resetAndDestroy();
        server.destroy();
      }),
    halfClose: () => each(({ client }) => client.end()),
    cutReplyAfter: (bytes) => {
      each((pair) => {
        pair.left = bytes;
      });
    },
    close: async () => {
      each(({ client, server }) => {
        client.destroy();
        server.destroy();
      });
      await new Promise<void>((resolve) => listener.close(() => resolve()));
    },
  };
}
