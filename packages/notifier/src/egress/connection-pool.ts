import type { Socket } from 'node:net';
import { monotonicMs } from '@holdfast/core';
import { type buildConnector, Client } from 'undici';
import { skipContinue } from './skip-continue.ts';

/** A connection to an origin. It is opened at its first use, and reopened after it broke. */
export interface Connection {
  readonly client: Client;
  /** True while the connection is open, so that a request reuses it. */
  readonly connected: boolean;
  /** Address of the peer that it was last connected to. */
  readonly remoteAddress: string | undefined;
}

export interface ConnectionPoolOptions {
  readonly connect: buildConnector.connector;
  readonly client: Omit<Client.Options, 'connect'>;
  /** Time after which an idle connection is closed, in ms. Default 30,000. */
  readonly idleMs?: number;
  /** Maximum number of idle connections, over all origins. Default 1,024. */
  readonly maxIdle?: number;
}

class PooledConnection implements Connection {
  readonly origin: string;
  readonly client: Client;
  remoteAddress: string | undefined;
  connected = false;
  idleSince = 0;
  /** Tells the connection that the next bytes from it begin a response. */
  expectResponse: (() => void) | undefined;

  constructor(origin: string, options: ConnectionPoolOptions) {
    this.origin = origin;
    this.client = new Client(origin, {
      ...options.client,
      connect: (connecting, callback) =>
        options.connect(connecting, (...[error, socket]: [Error, null] | [null, Socket]) => {
          if (error) {
            callback(error, null);
            return;
          }
          this.remoteAddress = socket.remoteAddress;
          this.connected = true;
          this.expectResponse = skipContinue(socket);
          socket.once('close', () => {
            this.connected = false;
          });
          callback(null, socket as never);
        }),
    });
  }
}

/**
 * Connections by origin, each with one request at a time. The caller bounds their number, since it bounds its requests. Each connection is
 * an undici `Client`, not part of an undici `Pool`, so that a request knows the address that it went to.
 */
export class ConnectionPool {
  readonly #options: ConnectionPoolOptions;
  readonly #idle = new Map<string, PooledConnection[]>();
  #idleCount = 0;
  #sweep: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(options: ConnectionPoolOptions) {
    this.#options = options;
  }

  /** Lends a connection to `origin` for one exchange. */
  async use<T>(origin: string, fn: (connection: Connection) => Promise<T>): Promise<T> {
    const list = this.#idle.get(origin);
    const known = list?.pop();
    if (known) this.#idleCount -= 1;
    const connection = known ?? new PooledConnection(origin, this.#options);
    connection.expectResponse?.();
    try {
      return await fn(connection);
    } finally {
      this.#giveBack(connection);
    }
  }

  /** Closes idle connections now, and the others when their exchange ends. */
  async close(): Promise<void> {
    this.#closed = true;
    clearInterval(this.#sweep);
    this.#sweep = undefined;
    const all = [...this.#idle.values()].flat();
    this.#idle.clear();
    this.#idleCount = 0;
    await Promise.all(all.map(({ client }) => client.destroy()));
  }

  #giveBack(connection: PooledConnection): void {
    if (this.#closed || !connection.connected || this.#idleCount >= (this.#options.maxIdle ?? 1_024)) {
      void connection.client.destroy().catch(() => undefined);
      return;
    }
    connection.idleSince = monotonicMs();
    const list = this.#idle.get(connection.origin);
    if (list) list.push(connection);
    else this.#idle.set(connection.origin, [connection]);
    this.#idleCount += 1;
    this.#sweep ??= setInterval(() => this.#dropIdle(), 5_000).unref();
  }

  #dropIdle(): void {
    const before = monotonicMs() - (this.#options.idleMs ?? 30_000);
    for (const [origin, list] of this.#idle) {
      const kept = list.filter(({ connected, idleSince }) => connected && idleSince > before);
      for (const one of list) if (!kept.includes(one)) void one.client.destroy().catch(() => undefined);
      this.#idleCount -= list.length - kept.length;
      if (kept.length > 0) this.#idle.set(origin, kept);
      else this.#idle.delete(origin);
    }
    if (this.#idleCount > 0) return;
    clearInterval(this.#sweep);
    this.#sweep = undefined;
  }
}
