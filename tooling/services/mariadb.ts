import { debianFolder } from './debian-folder.ts';
import { type Home, thisMachine } from './home.ts';
import { lane } from './lane.ts';
import { mysqlServer } from './mysql-server.ts';
import type { Service } from './service.ts';

const binary = '/usr/sbin/mariadbd';

function mariadbServer(name: string, addressVariable: string, home: Home): Service {
  return mysqlServer({
    name,
    variable: 'HOLDFAST_MARIADB_URL',
    addressVariable,
    home,
    user: 'mysql',
    binary,
    settings: ['--skip-log-bin'],
    initialise: (record, data, owner) =>
      home.run(record, 'mariadb-install-db', ['--no-defaults', `--datadir=${data}`, '--skip-test-db'], owner),
  });
}

/** MariaDB of this machine's suite: 10.11 on Debian 12. */
export const mariadb10: Service = mariadbServer('mariadb', 'HOLDFAST_MARIADB_URL', thisMachine(['mariadb-server'], [binary]));

/** MariaDB 11.8, where a transaction that reads a changed row fails (`innodb_snapshot_isolation`). */
export const mariadb11: Service = mariadbServer(
  'mariadb-11.8',
  'HOLDFAST_MARIADB_11_8_URL',
  debianFolder({ suite: 'trixie', package: 'mariadb-server', binary }),
);

/** The one of this lane. */
export const mariadb: Service = lane === 'newer' ? mariadb11 : mariadb10;
