import type { Knex } from 'knex';

interface Connection {
  readonly connectionString?: unknown;
  readonly uri?: unknown;
  readonly host?: unknown;
  readonly port?: unknown;
  readonly socketPath?: unknown;
}

const defaultPorts: Readonly<Record<string, string>> = { postgresql: '5432', mysql: '3306' };
const thisMachine = new Set(['', 'localhost', '::1', '[::1]', '0.0.0.0']);

/**
 * The server of a database by its address, such as `mysql 10.0.0.7:3306`: databases on one server have the same. Where the address can't be
 * known, as of a connection that a function provides, and on SQLite, which has no server: the database's own name in the topology.
 */
export function serverOf(knex: Knex, databaseName: string): string {
  const { dialect = '', config } = knex.client as { dialect?: string; config: { connection?: unknown } };
  const port = defaultPorts[dialect];
  const { connection } = config;
  if (port === undefined || typeof connection === 'function') return databaseName;
  const { connectionString, uri, host, socketPath, port: given } = (typeof connection === 'object' ? (connection ?? {}) : {}) as Connection;
  const text = typeof connection === 'string' ? connection : (connectionString ?? uri);
  if (typeof text === 'string') {
    if (!URL.canParse(text)) return databaseName;
    const url = new URL(text);
    return address(dialect, url.searchParams.get('host') ?? url.hostname, url.port || port);
  }
  if (typeof socketPath === 'string') return `${dialect} ${socketPath}`;
  return typeof host === 'string' ? address(dialect, host, String(given || port)) : databaseName;
}

function address(dialect: string, host: string, port: string): string {
  const name = host.toLowerCase();
  return `${dialect} ${thisMachine.has(name) ? '127.0.0.1' : name}:${port}`;
}
