import { debianFolder } from './debian-folder.ts';
import { mysqlServer } from './mysql-server.ts';
import type { Service } from './service.ts';

const binary = '/usr/sbin/mysqld';
const home = debianFolder({ suite: 'sid', package: 'mysql-server-core', binary, user: 'mysql' });

/**
 * MySQL 9.7, set up as hosted ones are: its binary log on, global transaction ids enforced, and no table without a primary key.
 */
export const mysql: Service = mysqlServer({
  name: 'mysql',
  variable: 'HOLDFAST_MYSQL_URL',
  home,
  user: 'mysql',
  binary,
  settings: [
    // It would open a second port, on every address.
    '--mysqlx=OFF',
    '--secure-file-priv=NULL',
    '--gtid-mode=ON',
    '--enforce-gtid-consistency=ON',
    '--sql-require-primary-key=ON',
    '--max-binlog-size=64M',
    '--binlog-expire-logs-seconds=600',
    '--innodb-redo-log-capacity=1G',
  ],
  initialise: (record, data, owner) => home.run(record, binary, ['--no-defaults', '--initialize-insecure', `--datadir=${data}`], owner),
});
