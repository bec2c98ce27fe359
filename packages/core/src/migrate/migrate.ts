import type { Knex } from 'knex';
import pRetry from 'p-retry';
import { Database } from '../database/database.ts';
import type { SqlRunner } from '../database/sql-runner.ts';
import { isTransient } from '../database/transient.ts';
import { InvalidArgumentError, MigrationRequiredError, SchemaNewerError } from '../errors/errors.ts';
import { guardLogger } from '../observe/guard-logger.ts';
import type { Logger } from '../observe/logger.ts';
import { type Duration, durationMs } from '../time/duration.ts';
import { existingObject } from './existing-shape.ts';
import { withMigrationLock } from './migration-lock.ts';
import { createRecords, insertRecord, recordedNames } from './migration-records.ts';
import { reportIndexWait } from './report-index-wait.ts';
import type { Migration, Schema } from './schema.ts';

/** The Postgres schema and the names of the tables. */
export interface MigrateOptions {
  /** Postgres schema of the tables. It must exist. Default: the first schema of the connection's `search_path`. */
  readonly schema?: string | undefined;
  /** Prefix of the name of every table. Default `''`. */
  readonly tablePrefix?: string | undefined;
  /**
   * How long to wait while another process migrates. Default 10 minutes. Raise it where that may build an index on a large adopted table.
   * Then `MigrationLockedError` names the holder of the lock.
   */
  readonly lockTimeout?: Duration | undefined;
  /** Gets a line at `warn` when an index waits for other transactions (Postgres), with their sessions. Default: standard error. */
  readonly logger?: Logger | undefined;
}

/** The names of the migrations that were run, by schema. */
export type Migrated = Readonly<Record<string, readonly string[]>>;

const defaultLockTimeout = '10m';

/**
 * Brings the tables of the given schemas up to date. Any number of processes may call it at once. It reads first: if nothing is left to do, it
 * takes no lock, and needs no right to create a table. The migrations of each schema are recorded in a table of their own, so that services
 * with different packages can share a database.
 *
 * @throws SchemaNewerError if the database has migrations that this version does not know
 * @throws MigrationLockedError if another process migrates for longer than `lockTimeout`
 * @throws InvalidArgumentError if a table or an index of one of our names exists that is not ours, or if a name is too long
 */
export async function migrate(knex: Knex, schemas: readonly Schema[], options: MigrateOptions = {}): Promise<Migrated> {
  const { lockTimeout = defaultLockTimeout, logger, ...names } = options;
  const lockTimeoutMs = durationMs(lockTimeout, 'lockTimeout');
  // To build an index on a large adopted table can take hours. On SQLite the limit is that of the wait for the write lock.
  const statementTimeout = (knex?.client as { dialect?: unknown } | undefined)?.dialect === 'sqlite3' ? lockTimeoutMs : '1d';
  const database = new Database({ knex, loopConnections: 1, statementTimeout, ...names });
  try {
    await database.describe();
    await refuseFoldedPrefix(database);
    const done: Record<string, readonly string[]> = Object.fromEntries(schemas.map(({ name }) => [name, []]));
    const open = await database.use((sql) => openMigrations(database, schemas, sql));
    if (open.length === 0) return done;
    await withMigrationLock(database, lockTimeoutMs, async (sql) => {
      for (const schema of schemas)
        done[schema.name] = await retryDeadlocks(() => migrateSchema(database, schema, sql, guardLogger(logger)));
    });
    return done;
  } finally {
    await database.close();
  }
}

/** @throws InvalidArgumentError if the server ignores case in names of tables, so that another service's prefix may be the same */
async function refuseFoldedPrefix(database: Database): Promise<void> {
  if (database.family !== 'mysql' || database.tablePrefix === database.tablePrefix.toLowerCase()) return;
  const [row] = await database.rows<{ folds: unknown }>('SELECT @@lower_case_table_names AS folds');
  if (Number(row?.folds) !== 0)
    throw new InvalidArgumentError(
      `tablePrefix is ${database.tablePrefix}, and this server (lower_case_table_names = ${row?.folds}) does not tell capital letters in names of tables from small ones: a service with the prefix ${database.tablePrefix.toLowerCase()} would share its tables. Write it in small letters; tables that exist keep their names.`,
    );
}

/** The migrations that were not run. @throws SchemaNewerError */
async function openMigrations(database: Database, schemas: readonly Schema[], sql: SqlRunner): Promise<readonly Migration[]> {
  const open: Migration[] = [];
  for (const schema of schemas) {
    const applied = await recordedNames(database, schema, sql, 'created');
    const unknown = applied.filter((name) => !schema.migrations.some((migration) => migration.name === name));
    if (unknown.length > 0) {
      throw new SchemaNewerError(
        `The tables of ${schema.name} were migrated by a newer version (${unknown.join(', ')} unknown here). Deploy that version, or let it run the migrations.`,
      );
    }
    open.push(...schema.migrations.filter((migration) => !applied.includes(migration.name)));
  }
  return open;
}

/**
 * knex's migrator is not used. It reports a corrupt list when two services with different lists share a database, and its lock fails when
 * two processes create it at once. Both would have to be switched off.
 */
async function migrateSchema(database: Database, schema: Schema, sql: SqlRunner, logger: Logger): Promise<readonly string[]> {
  const open = await openMigrations(database, [schema], sql);
  if (open.length > 0) await apply(database, sql, createRecords(database, schema), logger);
  for (const migration of open) {
    for (const statement of await migration.statements(database, sql)) await apply(database, sql, statement, logger);
    await sql.run(insertRecord(database, schema, migration.name));
  }
  return open.map(({ name }) => name);
}

/** Runs a statement, unless what it creates exists: a migration that was interrupted runs again from its start. */
async function apply(database: Database, sql: SqlRunner, statement: string, logger: Logger): Promise<void> {
  const existing = await existingObject(database, sql, statement);
  if (existing.found === 'ours') return;
  if (existing.found === 'broken') await sql.rows(existing.drop);
  await reportIndexWait(database, logger, statement, () => sql.rows(statement));
}

/** Two partial indexes that are built CONCURRENTLY in one database, even in different schemas, may deadlock. */
async function retryDeadlocks<T>(run: () => Promise<T>): Promise<T> {
  return pRetry(run, { retries: 10, minTimeout: 50, randomize: true, shouldRetry: ({ error }) => isTransient(error) });
}

/** The statements that `migrate` runs on an empty database, as one script. It also records them, so that `migrate` has nothing left to do. */
export async function migrationSql(database: Database, schemas: readonly Schema[]): Promise<string> {
  // Collations and indexes of MySQL are not those of MariaDB.
  await database.describe();
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
    const names = await database.use((sql) => recordedNames(database, schema, sql, 'found'));
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
