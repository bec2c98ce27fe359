import type { Knex } from 'knex';
import { type TcpProxy, tcpProxy } from './tcp-proxy.ts';
import { connectTestDatabase } from './test-databases.ts';

/** Connections to a test database through a {@link TcpProxy}. */
export interface ThroughProxy {
  readonly proxy: TcpProxy;
  readonly knex: Knex;
  /** The database behind the proxy, for another process: pass it to `connectTestDatabase`. */
  readonly address: string;
  /** Closes connections and proxy. */
  close(): Promise<void>;
}

/** Opens the test database at `TestDatabase.address` through a proxy. It must be on a server. */
export async function throughProxy(address: string): Promise<ThroughProxy> {
  const url = new URL(address);
  const proxy = await tcpProxy({ host: url.hostname, port: Number(url.port) });
  url.host = `127.0.0.1:${proxy.port}`;
  const knex = connectTestDatabase(url.href);
  return {
    proxy,
    knex,
    address: url.href,
    async close() {
      await knex.destroy();
      await proxy.close();
    },
  };
}
