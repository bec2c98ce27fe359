import { execFileSync } from 'node:child_process';
import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import pg from 'pg';
import { account } from './debian.ts';
import { serviceFolder, startDetached } from './process-record.ts';
import type { Service } from './service.ts';

/** Where the newest Postgres that is installed has its programs. */
export function binaryFolder(): string {
  const base = '/usr/lib/postgresql';
  const versions = existsSync(base) ? readdirSync(base).filter((version) => existsSync(join(base, version, 'bin', 'postgres'))) : [];
  return join(base, versions.sort((a, b) => Number(b) - Number(a))[0] ?? '15', 'bin');
}

export const postgres: Service = {
  name: 'postgres',
  variable: 'HOLDFAST_POSTGRES_URL',
  packages: ['postgresql', 'pgbouncer'],
  binaries: ['/usr/lib/postgresql', '/usr/sbin/pgbouncer'],
  stopSignal: 'SIGINT',
  url: (port) => `postgres://holdfast:holdfast@127.0.0.1:${port}/holdfast`,
  async start(port, name) {
    const folder = serviceFolder(name);
    const data = join(folder, 'data');
    const owner = account('postgres');
    const bin = binaryFolder();
    // The folders above must let the server's own account through.
    for (let path = folder; path !== dirname(path); path = dirname(path)) letThrough(path);
    chownSync(folder, owner.uid, owner.gid);
    if (!existsSync(join(data, 'holdfast-ready'))) {
      rmSync(data, { recursive: true, force: true });
      mkdirSync(data, { mode: 0o700 });
      chownSync(data, owner.uid, owner.gid);
      execFileSync(join(bin, 'initdb'), ['-D', data, '-U', 'holdfast', '--auth=trust', '-E', 'UTF8', '--locale=C.UTF-8'], {
        ...owner,
        cwd: folder,
        stdio: 'ignore',
      });
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
    startDetached(
      name,
      port,
      join(bin, 'postgres'),
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
    } finally {
      await admin.end();
    }
  },
};

/** Lets other accounts pass through a folder of ours, where they can't yet; every other bit stays as it is. */
function letThrough(path: string): void {
  const { mode } = statSync(path);
  if ((mode & 0o001) === 0) chmodSync(path, (mode & 0o7777) | 0o001);
}
