import type { Knex } from 'knex';
import { type TcpProxy, tcpProxy } from './tcp-proxy.ts';
import { connectTestDatabase } from './test-databases.ts';

/** Connections to a test database that can be cut. */
export interface ThroughProxy {
  readonly proxy: TcpProxy;
  readonly knex: Knex;
  /** The database behind the proxy, for another process: pass it to `connectTestDatabase`. */
  readonly address: string;
  /** Closes connections and proxy. */
  close(): Promise<void>;
}

/** Opens the database that `TestDatabase.address` names, on a server, through a proxy. */
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
