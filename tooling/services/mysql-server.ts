import { chownSync, existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createConnection } from 'mysql2/promise';
import type { Account } from './debian.ts';
import type { Home } from './home.ts';
import { serviceFolder } from './process-record.ts';
import type { Service } from './service.ts';

/** The differences between MySQL and MariaDB as servers. */
interface Kind {
  readonly name: string;
  readonly variable: string;
  readonly addressVariable?: string;
  readonly home: Home;
  readonly user: string;
  readonly binary: string;
  readonly settings: readonly string[];
  /** Creates the data folder. */
  initialise(name: string, data: string, owner: Account): void;
}

/** A server that speaks MySQL's protocol. */
export function mysqlServer({ home, binary, settings, initialise, user, ...kind }: Kind): Service {
  return {
    ...kind,
    ...home,
    stopSignal: 'SIGTERM',
    url: (port) => `mysql://holdfast:holdfast@127.0.0.1:${port}/holdfast`,
    async start(port, name, more = []) {
      const folder = serviceFolder(name);
      const [data, temporary] = [join(folder, 'data'), join(folder, 'tmp')];
      const owner = home.account(user);
      chownSync(folder, owner.uid, owner.gid);
      // A folder of its own: MariaDB deletes every file named #sql* in it at its start, even files of another running server, which then crashes.
      rmSync(temporary, { recursive: true, force: true });
      mkdirSync(temporary);
      chownSync(temporary, owner.uid, owner.gid);
      // Run at every start: creates what is missing.
      const init = join(folder, 'init.sql');
      writeFileSync(
        init,
        "CREATE DATABASE IF NOT EXISTS holdfast CHARACTER SET utf8mb4;\nCREATE USER IF NOT EXISTS 'holdfast'@'127.0.0.1' IDENTIFIED BY 'holdfast';\nGRANT ALL ON *.* TO 'holdfast'@'127.0.0.1' WITH GRANT OPTION;\n",
      );
      if (!existsSync(join(folder, 'ready'))) {
        rmSync(data, { recursive: true, force: true });
        mkdirSync(data, { mode: 0o700 });
        chownSync(data, owner.uid, owner.gid);
        initialise(name, data, owner);
        writeFileSync(join(folder, 'ready'), '');
      }
      const args = [
        '--no-defaults',
        `--datadir=${data}`,
        `--tmpdir=${temporary}`,
        '--bind-address=127.0.0.1',
        `--port=${port}`,
        // In /tmp, because a socket's path may have 107 characters at the most.
        `--socket=${join('/tmp', `holdfast-${kind.name}-${port}.sock`)}`,
        `--pid-file=${join(folder, 'server.pid')}`,
        `--init-file=${init}`,
        '--innodb-buffer-pool-size=512M',
        '--max-connections=300',
        '--skip-name-resolve',
        ...settings,
        ...more,
      ];
      home.start(name, port, binary, args, owner);
    },
    async roundTrip(url) {
      const connection = await createConnection(url);
      try {
        const [rows] = await connection.query('SELECT VERSION() AS version');
        return (rows as { version: string }[])[0]?.version;
      } finally {
        await connection.end();
      }
    },
  };
}
