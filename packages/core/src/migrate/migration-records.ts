import type { Database } from '../database/database.ts';
import { insertNew } from '../database/dialect-sql.ts';
import type { SqlRunner } from '../database/sql-runner.ts';
import { InvalidArgumentError } from '../errors/errors.ts';
import { fittingName } from './fitting-name.ts';
import type { Schema } from './schema.ts';

/** The statement that creates the table in which the migrations of a schema are recorded. */
export function createRecords(database: Database, schema: Schema): string {
  fittingName(database, recordTable(schema));
  const table = database.table(recordTable(schema));
  return `CREATE TABLE IF NOT EXISTS ${table} (name VARCHAR(191) NOT NULL PRIMARY KEY, migration_time TIMESTAMP NOT NULL)`;
}

/** The statement that records a migration. It may be run again. */
export function insertRecord(database: Database, schema: Schema, name: string): string {
  const into = `INTO ${database.table(recordTable(schema))} (name, migration_time) VALUES ('${name}', CURRENT_TIMESTAMP)`;
  return insertNew(database, into);
}

/**
 * The migrations of a schema that were run, in their order. It only reads: a process whose tables are up to date needs no right to create
 * any. The catalog is asked whether the table exists, since the error of a missing table has no code on SQLite.
 * @param place Postgres: look where `migrate` creates tables, or where statements find them, in any schema of the search path
 */
export async function recordedNames(
  database: Database,
  schema: Schema,
  sql: Pick<SqlRunner, 'rows'>,
  place: 'created' | 'found',
): Promise<string[]> {
  const name = `${database.tablePrefix}${recordTable(schema)}`;
  const stored = await storedName(database, name, sql, place);
  if (stored === undefined) return [];
  // MySQL may store names in small letters: see `migrate`.
  if (stored !== name && !(database.family === 'mysql' && stored === name.toLowerCase()))
    throw new InvalidArgumentError(
      `The database has the table ${stored}, and does not tell it from ${name}: a service whose tablePrefix differs in capital letters only would share its tables. Give this service another tablePrefix.`,
    );
  const rows = await sql.rows<{ name: string }>(`SELECT name FROM ${database.table(recordTable(schema))} ORDER BY name`);
  return rows.map((row) => row.name);
}

/** The name of a table as the database stores it, or `undefined` if there is none. SQLite, and some MySQL servers, ignore case. */
async function storedName(
  database: Database,
  name: string,
  sql: Pick<SqlRunner, 'rows'>,
  place: 'created' | 'found',
): Promise<string | undefined> {
  const statements = {
    postgres:
      place === 'found' && database.schema === undefined
        ? 'SELECT relname AS name FROM pg_class WHERE oid = to_regclass(quote_ident(?))'
        : 'SELECT c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relname = ? AND n.nspname = COALESCE(?, current_schema())',
    mysql: 'SELECT table_name AS name FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = ?',
    sqlite: "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name = ? COLLATE NOCASE",
  };
  const statement = statements[database.family];
  const params = statement.includes('COALESCE') ? [name, database.schema ?? null] : [name];
  const [row] = await sql.rows<{ name: string }>(statement, params);
  return row?.name;
}

function recordTable(schema: Schema): string {
  return `holdfast_${schema.name.replaceAll('-', '_')}_migrations`;
}
