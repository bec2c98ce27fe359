import { execFileSync } from 'node:child_process';
import { chownSync, existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createConnection } from 'mysql2/promise';
import { account } from './debian.ts';
import { serviceFolder, startDetached } from './process-record.ts';
import type { Service } from './service.ts';

export const mariadb: Service = {
  name: 'mariadb',
  variable: 'HOLDFAST_MARIADB_URL',
  packages: ['mariadb-server'],
  binaries: ['/usr/sbin/mariadbd'],
  stopSignal: 'SIGTERM',
  url: (port) => `mysql://holdfast:holdfast@127.0.0.1:${port}/holdfast`,
  async start(port, name, more = []) {
    const folder = serviceFolder(name);
    const data = join(folder, 'data');
    const owner = account('mysql');
    chownSync(folder, owner.uid, owner.gid);
    const init = join(folder, 'init.sql');
    // Run at every start: creates what is missing.
    writeFileSync(
      init,
      "CREATE DATABASE IF NOT EXISTS holdfast CHARACTER SET utf8mb4;\nCREATE USER IF NOT EXISTS 'holdfast'@'127.0.0.1' IDENTIFIED BY 'holdfast';\nGRANT ALL ON *.* TO 'holdfast'@'127.0.0.1';\n",
    );
    if (!existsSync(join(folder, 'ready'))) {
      rmSync(data, { recursive: true, force: true });
      mkdirSync(data, { mode: 0o700 });
      chownSync(data, owner.uid, owner.gid);
      execFileSync('mariadb-install-db', ['--no-defaults', `--datadir=${data}`, '--user=mysql', '--skip-test-db'], {
        cwd: folder,
        stdio: 'ignore',
      });
      writeFileSync(join(folder, 'ready'), '');
    }
    const socket = join('/tmp', `holdfast-mariadb-${port}.sock`);
    const args = [
      '--no-defaults',
      `--datadir=${data}`,
      '--user=mysql',
      '--bind-address=127.0.0.1',
      `--port=${port}`,
      `--socket=${socket}`,
      `--init-file=${init}`,
      '--innodb-buffer-pool-size=512M',
      '--max-connections=300',
      '--skip-log-bin',
      '--skip-name-resolve',
      ...more,
    ];
    startDetached(name, port, '/usr/sbin/mariadbd', args);
  },
  async roundTrip(url) {
    const connection = await createConnection(url);
    try {
      await connection.query('SELECT VERSION()');
    } finally {
      await connection.end();
    }
  },
};
