import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import knexFactory, { type Knex } from 'knex';
import { dialects } from '../database/dialect.ts';
import { openSqlite } from '../sqlite/open-sqlite.ts';

/** A database for one test file. */
export interface TestDatabase {
  readonly name: 'sqlite' | 'postgres' | 'mariadb' | 'mysql';
  readonly knex: Knex;
  /** Another knex on the same database, as a second process would have. */
  connect(): Knex;
  /** The address for a child process: pass it to {@link connectTestDatabase}. */
  readonly address: string;
  /** Removes the database. With `keep`, as after a failure, it stays, and its address is returned. */
  drop(keep?: boolean): Promise<string | undefined>;
}

/** A dialect of which test databases can be created. */
export interface TestDialect {
  readonly name: TestDatabase['name'];
  /** Creates a test database. */
  create(): Promise<TestDatabase>;
}

/**
 * The dialects to test: SQLite, and the servers whose address is in `HOLDFAST_<NAME>_URL`. `HOLDFAST_DATABASES`, names separated by commas,
 * limits the list.
 */
export function testDialects(servers: NodeJS.ProcessEnv = process.env): readonly TestDialect[] {
  const list: TestDialect[] = [{ name: 'sqlite', create: createSqlite }];
  const wanted = servers.HOLDFAST_DATABASES?.split(',');
  for (const name of wanted ?? [])
    if (!(dialects as readonly string[]).includes(name)) throw new Error(`HOLDFAST_DATABASES names "${name}"; use ${dialects.join(', ')}.`);
  const { HOLDFAST_POSTGRES_URL: postgres, HOLDFAST_MARIADB_URL: mariadb, HOLDFAST_MYSQL_URL: mysql } = servers;
  if (postgres) list.push({ name: 'postgres', create: () => createPostgres(postgres) });
  if (mariadb) list.push({ name: 'mariadb', create: () => createMysql('mariadb', mariadb) });
  if (mysql) list.push({ name: 'mysql', create: () => createMysql('mysql', mysql) });
  return wanted ? list.filter(({ name }) => wanted.includes(name)) : list;
}

/** knex prints each connection that fails, although the caller gets the error, and tests break hundreds of connections. */
const log = { warn: ignore, error: ignore };

function ignore(): void {
  // See above.
}

/** Opens the database that `TestDatabase.address` names. */
export function connectTestDatabase(address: string): Knex {
  const url = new URL(address);
  if (url.protocol === 'file:') {
    const knex = openSqlite(url.pathname, { synchronous: 'NORMAL' });
    // Silent, as on the servers.
    Object.assign((knex.client as { logger: object }).logger, log);
    return knex;
  }
  if (url.protocol.startsWith('postgres')) {
    const schema = url.searchParams.get('schema') ?? 'public';
    // Names the connections of one test, so that the test can end its own only.
    url.search = `application_name=${schema}`;
    return knexFactory({ client: 'pg', connection: url.href, searchPath: [schema], pool: { min: 0, max: 10 }, log });
  }
  return knexFactory({ client: 'mysql2', connection: address, pool: { min: 0, max: 10 }, log });
}

function uniqueName(): string {
  return `t_${randomBytes(6).toString('hex')}`;
}

function database(name: TestDatabase['name'], address: string, remove: () => Promise<void>): TestDatabase {
  const open: Knex[] = [];
  const connect = (): Knex => {
    const knex = connectTestDatabase(address);
    open.push(knex);
    return knex;
  };
  return {
    name,
    address,
    connect,
    knex: connect(),
    async drop(keep = false) {
      if (!keep) await remove();
      for (const knex of open) await knex.destroy();
      return keep ? address : undefined;
    },
  };
}

async function createSqlite(): Promise<TestDatabase> {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-'));
  return database('sqlite', `file://${join(folder, 'test.db')}`, async () => rmSync(folder, { recursive: true, force: true }));
}

async function createPostgres(server: string): Promise<TestDatabase> {
  const schema = uniqueName();
  await once(knexFactory({ client: 'pg', connection: server }), `CREATE SCHEMA ${schema}`);
  const remove = (): Promise<void> => once(knexFactory({ client: 'pg', connection: server }), `DROP SCHEMA ${schema} CASCADE`);
  return database('postgres', `${server}?schema=${schema}`, remove);
}

async function createMysql(name: 'mariadb' | 'mysql', server: string): Promise<TestDatabase> {
  const own = uniqueName();
  const url = new URL(server);
  url.pathname = `/${own}`;
  await once(knexFactory({ client: 'mysql2', connection: server }), `CREATE DATABASE ${own} CHARACTER SET utf8mb4`);
  const remove = (): Promise<void> => once(knexFactory({ client: 'mysql2', connection: server }), `DROP DATABASE ${own}`);
  return database(name, url.href, remove);
}

async function once(knex: Knex, sql: string): Promise<void> {
  try {
    await knex.raw(sql);
  } finally {
    await knex.destroy();
  }
}
