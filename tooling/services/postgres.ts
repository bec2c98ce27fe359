import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import pg from 'pg';
import { debianFolder } from './debian-folder.ts';
import { type Home, thisMachine } from './home.ts';
import { lane } from './lane.ts';
import { serviceFolder } from './process-record.ts';
import type { Service } from './service.ts';

const base = '/usr/lib/postgresql';

/** The folder of the programs of the newest Postgres on this machine. */
function installed(): string {
  const versions = existsSync(base) ? readdirSync(base).filter((version) => existsSync(join(base, version, 'bin', 'postgres'))) : [];
  return join(base, versions.sort((a, b) => Number(b) - Number(a))[0] ?? '15', 'bin');
}

/** A Postgres server, with a method that runs its other programs. */
export interface PostgresService extends Service {
  readonly home: Home;
  /** The folder of its programs, within its home. */
  bin(): string;
}

const postgresServer = (name: string, addressVariable: string, home: Home, bin: () => string): PostgresService => ({
  ...home,
  home,
  bin,
  name,
  variable: 'HOLDFAST_POSTGRES_URL',
  addressVariable,
  stopSignal: 'SIGINT',
  url: (port) => `postgres://holdfast:holdfast@127.0.0.1:${port}/holdfast`,
  async start(port, name) {
    const folder = serviceFolder(name);
    const data = join(folder, 'data');
    const owner = home.account('postgres');
    // The account of the server needs access to the parent folders.
    for (let path = folder; path !== dirname(path); path = dirname(path)) letThrough(path);
    chownSync(folder, owner.uid, owner.gid);
    if (!existsSync(join(data, 'holdfast-ready'))) {
      rmSync(data, { recursive: true, force: true });
      mkdirSync(data, { mode: 0o700 });
      chownSync(data, owner.uid, owner.gid);
      home.run(name, join(bin(), 'initdb'), ['-D', data, '-U', 'holdfast', '--auth=trust', '-E', 'UTF8', '--locale=C.UTF-8'], owner);
      writeFileSync(join(data, 'holdfast-ready'), '');
    }
    const settings = {
      listen_addresses: '127.0.0.1',
      unix_socket_directories: '',
      max_connections: '300',
      shared_buffers: '256MB',
      max_wal_size: '4GB',
      log_min_messages: 'fatal',
    };
    home.start(
      name,
      port,
      join(bin(), 'postgres'),
      ['-D', data, '-p', String(port), ...Object.entries(settings).flatMap(([key, value]) => ['-c', `${key}=${value}`])],
      owner,
    );
  },
  async roundTrip(url) {
    const admin = new pg.Client({ connectionString: url.replace(/\/holdfast$/, '/postgres') });
    await admin.connect();
    try {
      const { rowCount } = await admin.query("SELECT 1 FROM pg_database WHERE datname = 'holdfast'");
      if (rowCount === 0) await admin.query('CREATE DATABASE holdfast');
      return String((await admin.query('SHOW server_version')).rows[0]?.server_version).split(' ')[0];
    } finally {
      await admin.end();
    }
  },
});

/** PostgreSQL of this machine's suite: 15 on Debian 12. */
const postgres15 = postgresServer(
  'postgres',
  'HOLDFAST_POSTGRES_URL',
  thisMachine(['postgresql', 'pgbouncer'], [base, '/usr/sbin/pgbouncer']),
  installed,
);

const bin18 = join(base, '18', 'bin');
const postgres18 = postgresServer(
  'postgres-18',
  'HOLDFAST_POSTGRES_18_URL',
  debianFolder({ suite: 'sid', package: 'postgresql-18', binary: join(bin18, 'postgres') }),
  () => bin18,
);

/** The one of this lane. */
export const postgres: PostgresService = lane === 'newer' ? postgres18 : postgres15;

/** Sets the bit that lets other accounts pass through a folder of ours. Other bits stay as they are. */
function letThrough(path: string): void {
  const { mode } = statSync(path);
  if ((mode & 0o001) === 0) chmodSync(path, (mode & 0o7777) | 0o001);
}
