import type { Knex } from 'knex';
import pRetry from 'p-retry';
import { Database } from '../database/database.ts';
import type { SqlRunner } from '../database/sql-runner.ts';
import { isMissingTable, isTransient } from '../database/transient.ts';
import { MigrationRequiredError, SchemaNewerError } from '../errors/errors.ts';
import { wait } from '../time/wait.ts';
import type { Schema } from './schema.ts';

/** The Postgres schema and the names of the tables. */
export interface MigrateOptions {
  /** Postgres schema of the tables. It must exist. Default: the first schema of the connection's `search_path`. */
  readonly schema?: string | undefined;
  /** Prefix of the name of every table. Default `''`. */
  readonly tablePrefix?: string | undefined;
}

/** The names of the migrations that were run, by schema. */
export type Migrated = Readonly<Record<string, readonly string[]>>;

/**
 * Brings the tables of the given schemas up to date. Any number of processes may call it at once: it holds a session lock on a connection
 * of its own (on SQLite: the write lock). The migrations of each schema are recorded in a table of their own, so that services with
 * different packages can share a database.
 *
 * @throws SchemaNewerError if the database has migrations that this version does not know
 */
export async function migrate(knex: Knex, schemas: readonly Schema[], options: MigrateOptions = {}): Promise<Migrated> {
  // To build an index on a large adopted table can take hours, and so can the wait for another process that builds it.
  const database = new Database({ knex, loopConnections: 1, statementTimeout: '1d', ...options });
  try {
    await database.describe();
    const done: Record<string, readonly string[]> = {};
    await withLock(database, async (sql) => {
      for (const schema of schemas) done[schema.name] = await retryDeadlocks(() => migrateSchema(database, schema, sql));
    });
    return done;
  } finally {
    await database.close();
  }
}

/**
 * knex's migrator is not used. It reports a corrupt list when two services with different lists share a database, and its lock fails when
 * two processes create it at once. Both would have to be switched off.
 */
async function migrateSchema(database: Database, schema: Schema, sql: SqlRunner): Promise<readonly string[]> {
  const applied = await appliedNames(database, schema, sql);
  const unknown = applied.filter((name) => !schema.migrations.some((migration) => migration.name === name));
  if (unknown.length > 0) {
    throw new SchemaNewerError(
      `The tables of ${schema.name} were migrated by a newer version (${unknown.join(', ')} unknown here). Deploy that version, or let it run the migrations.`,
    );
  }
  const done: string[] = [];
  for (const migration of schema.migrations) {
    if (applied.includes(migration.name)) continue;
    for (const statement of await migration.statements(database, sql))
      await sql.rows(statement).catch((error) => ignoreExistingIndex(statement, error));
    await sql.run(insertRecord(database, schema, migration.name));
    done.push(migration.name);
  }
  return done;
}

/** A migration that was interrupted runs again from its start, so some indexes may exist. MySQL has no `CREATE INDEX IF NOT EXISTS`. */
function ignoreExistingIndex(statement: string, error: unknown): void {
  if ((error as { code?: unknown }).code !== 'ER_DUP_KEYNAME' || !/^CREATE (UNIQUE )?INDEX/.test(statement)) throw error;
}

function createRecords(database: Database, schema: Schema): string {
  const table = database.table(recordTable(schema));
  return `CREATE TABLE IF NOT EXISTS ${table} (name VARCHAR(191) NOT NULL PRIMARY KEY, migration_time TIMESTAMP NOT NULL)`;
}

function insertRecord(database: Database, schema: Schema, name: string): string {
  return `INSERT INTO ${database.table(recordTable(schema))} (name, migration_time) VALUES ('${name}', CURRENT_TIMESTAMP)`;
}

function recordTable(schema: Schema): string {
  return `holdfast_${schema.name.replaceAll('-', '_')}_migrations`;
}

/** Two partial indexes that are built CONCURRENTLY in one database, even in different schemas, may deadlock. */
async function retryDeadlocks<T>(run: () => Promise<T>): Promise<T> {
  return pRetry(run, { retries: 10, minTimeout: 50, randomize: true, shouldRetry: ({ error }) => isTransient(error) });
}

async function appliedNames(database: Database, schema: Schema, sql: SqlRunner): Promise<string[]> {
  const table = database.table(recordTable(schema));
  await sql.rows(createRecords(database, schema));
  const rows = (await sql.rows(`SELECT name FROM ${table} ORDER BY name`)) as { name: string }[];
  return rows.map((row) => row.name);
}

async function withLock(database: Database, fn: (sql: SqlRunner) => Promise<void>): Promise<void> {
  if (database.family === 'sqlite') {
    // One transaction holds the write lock throughout. A second process waits for it asynchronously.
    return database.transaction(fn);
  }
  const lock = await database.rawConnection();
  const key = `holdfast-migrate-${database.schema ?? ''}-${database.tablePrefix}`;
  try {
    if (database.family === 'postgres') await pollAdvisoryLock(lock.sql, key);
    else await lock.sql.rows('SELECT GET_LOCK(?, 86400)', [key]);
    await fn(lock.sql);
  } finally {
    // Closing the session releases its lock.
    await lock.close();
  }
}

/**
 * Polls for the lock instead of waiting in the server. A statement that waits holds a snapshot, and CREATE INDEX CONCURRENTLY waits for
 * every snapshot: if the holder of the lock is building an index, the two would deadlock.
 */
async function pollAdvisoryLock(sql: SqlRunner, key: string): Promise<void> {
  for (;;) {
    const [row] = await sql.rows<{ locked: boolean }>('SELECT pg_try_advisory_lock(hashtext(?)) AS locked', [key]);
    if (row?.locked) return;
    await wait(50);
  }
}

/** The statements that `migrate` runs on an empty database, as one script. It also records them, so that `migrate` has nothing left to do. */
export async function migrationSql(database: Database, schemas: readonly Schema[]): Promise<string> {
  const parts: string[] = [];
  for (const schema of schemas) {
    parts.push(`-- ${schema.name}: the record of its migrations`, `${createRecords(database, schema)};`, '');
    for (const migration of schema.migrations) {
      const statements = await database.use((sql) => Promise.resolve(migration.statements(database, sql)));
      parts.push(
        `-- ${schema.name} ${migration.name}`,
        ...[...statements, insertRecord(database, schema, migration.name)].map((statement) => `${statement};`),
        '',
      );
    }
  }
  return parts.join('\n');
}

/**
 * Checks that no migration of the schemas is missing. Newer tables are accepted, as during a deploy, since migrations only add. Returns the
 * names of the migrations that this version does not know.
 * @throws MigrationRequiredError if a migration is missing
 */
export async function checkMigrated(database: Database, schemas: readonly Schema[]): Promise<readonly string[]> {
  const newer: string[] = [];
  for (const schema of schemas) {
    let names: string[];
    try {
      names = (await database.rows<{ name: string }>(`SELECT name FROM ${database.table(recordTable(schema))}`)).map((row) => row.name);
    } catch (error) {
      if (!isMissingTable(error)) throw error;
      names = [];
    }
    const missing = schema.migrations.filter((migration) => !names.includes(migration.name)).map((migration) => migration.name);
    if (missing.length > 0) {
      throw new MigrationRequiredError(
        `The tables of ${schema.name} lack ${missing.join(', ')}. Run \`await migrate(knex, [coreSchema, …])\` or \`npx holdfast migrate\` before the service starts.`,
      );
    }
    newer.push(...names.filter((name) => !schema.migrations.some((migration) => migration.name === name)));
  }
  return newer;
}
