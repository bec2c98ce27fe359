import type { Knex } from 'knex';
import { UnsupportedDatabaseError } from '../errors/errors.ts';
import type { Dialect } from './dialect.ts';
import type { SqlRunner } from './sql-runner.ts';

/** The result of {@link describeDatabase}. */
export interface DatabaseDescription {
  readonly dialect: Dialect;
  /** As the server reports it, for example `15.18` or `10.11.14-MariaDB`. */
  readonly version: string;
  /** True if it has `SELECT … FOR UPDATE SKIP LOCKED`. False on SQLite, which has one writer. */
  readonly skipLocked: boolean;
  /** True if it has `UPDATE … RETURNING`. */
  readonly updateReturning: boolean;
  /** True if it has `INSERT … RETURNING`. */
  readonly insertReturning: boolean;
  /** The versions of this dialect that all tests run on. Other supported versions are expected to work in the same way. */
  readonly testedOn: readonly string[];
  /** Bytes that a statement may have: `max_allowed_packet` of MySQL and MariaDB. `undefined` where the server has no such limit. */
  readonly maxStatementBytes: number | undefined;
  /** Server settings that may lose committed work, refuse writes or break locks, each with what to do. */
  readonly warnings: readonly string[];
}

/** The versions that the tests run on. A test fails if its server is not listed here. */
const testedOn: Readonly<Record<Dialect, readonly string[]>> = {
  postgres: ['15', '18'],
  mysql: ['9.7'],
  mariadb: ['10.11', '11.8'],
  sqlite: ['3.53'],
};

/** The family of SQL by knex's configuration. Only the server itself can tell MySQL from MariaDB. */
export function clientFamily(knex: Knex): 'postgres' | 'mysql' | 'sqlite' {
  const name = String((knex.client as { dialect?: string }).dialect ?? '');
  if (name === 'postgresql') return 'postgres';
  if (name === 'mysql') return 'mysql';
  if (name === 'sqlite3') return 'sqlite';
  throw new UnsupportedDatabaseError(
    `knex is configured for "${name || 'nothing'}"; Holdfast works with PostgreSQL (client 'pg'), MySQL or MariaDB (client 'mysql2') and SQLite (openSqlite from @holdfast/core/sqlite).`,
  );
}

/**
 * Asks the server for its version and its settings.
 * @throws UnsupportedDatabaseError for a server that is too old, with the version that is needed
 */
export async function describeWith(sql: SqlRunner): Promise<DatabaseDescription> {
  if (sql.dialect === 'postgres') return describePostgres(sql);
  if (sql.dialect === 'sqlite') return describeSqlite(sql);
  return describeMysql(sql);
}

async function describePostgres(sql: SqlRunner): Promise<DatabaseDescription> {
  const [row] = await sql.rows<{ num: string; version: string; fsync: string; sync: string }>(
    "SELECT current_setting('server_version_num') AS num, current_setting('server_version') AS version, current_setting('fsync') AS fsync, current_setting('synchronous_commit') AS sync",
  );
  const number = Number(row?.num);
  requireVersion('PostgreSQL', row?.version ?? '?', number >= 140000, '14');
  const warnings: string[] = [];
  if (row?.fsync === 'off') warnings.push('fsync = off: a crash of the machine can lose or corrupt committed work. Turn it on.');
  if (row?.sync === 'off')
    warnings.push('synchronous_commit = off: a crash of the server loses the last committed transactions. Set it to on.');
  return {
    dialect: 'postgres',
    version: row?.version ?? '',
    testedOn: testedOn.postgres,
    skipLocked: true,
    updateReturning: true,
    insertReturning: true,
    maxStatementBytes: undefined,
    warnings,
  };
}

async function describeMysql(sql: SqlRunner): Promise<DatabaseDescription> {
  const [row] = await sql.rows<{
    version: string;
    flush: unknown;
    log_bin: unknown;
    sync_binlog: unknown;
    format: string;
    packet: unknown;
  }>(
    'SELECT VERSION() AS version, @@innodb_flush_log_at_trx_commit AS flush, @@log_bin AS log_bin, @@sync_binlog AS sync_binlog, @@binlog_format AS format, @@max_allowed_packet AS packet',
  );
  const version = row?.version ?? '';
  const mariadb = /mariadb/i.test(version);
  const [major = 0, minor = 0, patch = 0] = (/(\d+)\.(\d+)\.(\d+)/.exec(version.replace(/^5\.5\.5-/, '')) ?? []).slice(1).map(Number);
  const number = major * 1e6 + minor * 1e3 + patch;
  if (mariadb) requireVersion('MariaDB', version, number >= 10_006_000, '10.6');
  else requireVersion('MySQL', version, number >= 8_000_034, '8.0.34');
  const warnings: string[] = [];
  if (String(row?.flush) !== '1')
    warnings.push(`innodb_flush_log_at_trx_commit = ${row?.flush}: a crash loses the last committed transactions. Set it to 1.`);
  const logged = String(row?.log_bin) === '1';
  if (logged && String(row?.sync_binlog) !== '1')
    warnings.push(
      `sync_binlog = ${row?.sync_binlog}: after a crash of the machine, transactions that are not in the binary log are rolled back, though they were committed. Set it to 1.`,
    );
  if (logged && row?.format === 'STATEMENT')
    warnings.push(
      'binlog_format = STATEMENT: the server refuses writes at READ COMMITTED (error 1665), which are all writes of Holdfast. Set it to ROW or MIXED.',
    );
  const galera = await sql.rows<{ Value: string }>("SHOW GLOBAL STATUS LIKE 'wsrep_cluster_size'");
  if (Number(galera[0]?.Value ?? 0) > 1)
    warnings.push(
      'This is a Galera cluster: send all connections of Holdfast to one node, since a lock taken on one node does not hold on another.',
    );
  const dialect = mariadb ? 'mariadb' : 'mysql';
  return {
    dialect,
    version,
    testedOn: testedOn[dialect],
    skipLocked: true,
    updateReturning: false,
    insertReturning: mariadb,
    maxStatementBytes: Number(row?.packet),
    warnings,
  };
}

async function describeSqlite(sql: SqlRunner): Promise<DatabaseDescription> {
  const [row] = await sql.rows<{ version: string }>('SELECT sqlite_version() AS version');
  const [sync] = await sql.rows<{ synchronous: number | bigint }>('PRAGMA synchronous');
  const [major = 0, minor = 0] = (row?.version ?? '').split('.').map(Number);
  requireVersion('SQLite', row?.version ?? '?', major * 1000 + minor >= 3042, '3.42 (it comes with Node)');
  const warnings: string[] = [];
  if (Number(sync?.synchronous) < 2)
    warnings.push('synchronous = NORMAL or OFF: a power failure can lose the last committed transactions. Use FULL.');
  return {
    dialect: 'sqlite',
    version: row?.version ?? '',
    testedOn: testedOn.sqlite,
    skipLocked: false,
    updateReturning: true,
    insertReturning: true,
    maxStatementBytes: undefined,
    warnings,
  };
}

function requireVersion(name: string, version: string, ok: boolean, needed: string): void {
  if (!ok)
    throw new UnsupportedDatabaseError(`This server is ${name} ${version}; Holdfast needs ${name} ${needed} or newer. Upgrade the server.`);
}
