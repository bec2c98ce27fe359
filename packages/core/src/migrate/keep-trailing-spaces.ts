import type { Database } from '../database/database.ts';
import type { SqlRunner } from '../database/sql-runner.ts';
import { InvalidArgumentError } from '../errors/errors.ts';

/**
 * The collation of our tables on MySQL and MariaDB: texts are compared byte by byte. With `utf8mb4_bin` trailing spaces would not count, so
 * that the keys `'K'` and `'K '` were one, and the work of the second was taken for a duplicate.
 */
export function byteCollation(database: Pick<Database, 'dialect'>): string {
  return database.dialect === 'mariadb' ? 'utf8mb4_nopad_bin' : 'utf8mb4_0900_bin';
}

/** Columns that a package adds to a table of the user, whose own collation stays. */
export interface AddedColumns {
  readonly table: string;
  /** With their types, as in `VARCHAR(100) NOT NULL DEFAULT ''`. */
  readonly columns: readonly { readonly name: string; readonly type: string }[];
}

/** The type of a column with the collation of our tables, for a column of text that is added to a table of the user. */
export function inByteCollation(database: Pick<Database, 'dialect' | 'family'>, type: string): string {
  if (database.family !== 'mysql') return type;
  return type.replace(/^VARCHAR\(\d+\)/, (text) => `${text} CHARACTER SET utf8mb4 COLLATE ${byteCollation(database)}`);
}

/** A table above either of these limits is not copied: its writers would wait for more than a few seconds. */
export const copiedAtMost: { readonly rows: number; readonly bytes: number } = { rows: 500_000, bytes: 512 * 2 ** 20 };

/**
 * The statements that give tables of earlier versions the collation of {@link byteCollation}. None on Postgres and SQLite, where trailing
 * spaces always count, and for tables that have it.
 *
 * The server copies the table, and writers wait. A lock of another transaction is waited for 5 s at most, since every later statement on the
 * table waits behind the ALTER.
 * @throws InvalidArgumentError for a large table, with the statement to run
 */
export async function keepTrailingSpaces(
  database: Database,
  sql: SqlRunner,
  tables: readonly string[],
  added?: AddedColumns,
  most: typeof copiedAtMost = copiedAtMost,
): Promise<readonly string[]> {
  if (database.family !== 'mysql') return [];
  const collation = byteCollation(database);
  const names = new Map([...tables, ...(added ? [added.table] : [])].map((table) => [`${database.tablePrefix}${table}`, table]));
  const found = await sql.rows<{ name: string; collated: string; n: string | number | null; bytes: string | number | null }>(
    `SELECT table_name AS name, table_collation AS collated, table_rows AS n, data_length AS bytes FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name IN (${[...names].map(() => '?').join(', ')})`,
    [...names.keys()],
  );
  const alters: string[] = [];
  for (const row of found) {
    const table = names.get(row.name) ?? row.name;
    let change: string | undefined;
    if (row.collated === 'utf8mb4_bin') change = `CONVERT TO CHARACTER SET utf8mb4 COLLATE ${collation}`;
    else if (table === added?.table) change = await modifications(database, sql, added, collation);
    if (change === undefined) continue;
    const alter = `ALTER TABLE ${database.table(table)} ${change}`;
    if (await isLarge(database, sql, table, { rows: Number(row.n), bytes: Number(row.bytes) }, most))
      throw new InvalidArgumentError(
        `In the table ${row.name} the keys 'K' and 'K ' are one, since its collation leaves out trailing spaces. It has about ${row.n} rows (${Math.round(Number(row.bytes) / 2 ** 20)} MiB), and the change copies it while writers wait. Run ${alter} at a quiet hour, or with gh-ost or pt-online-schema-change; then migrate again.`,
      );
    alters.push(alter);
  }
  return alters.length === 0 ? [] : ['SET SESSION lock_wait_timeout = 5', ...alters, 'SET SESSION lock_wait_timeout = DEFAULT'];
}

async function modifications(database: Database, sql: SqlRunner, added: AddedColumns, collation: string): Promise<string | undefined> {
  const has = await sql.rows<{ name: string; collated: string | null }>(
    'SELECT column_name AS name, collation_name AS collated FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = ?',
    [`${database.tablePrefix}${added.table}`],
  );
  const other = new Set(has.flatMap((column) => (column.collated === null || column.collated === collation ? [] : [column.name])));
  const columns = added.columns.filter(({ name }) => other.has(name));
  if (columns.length === 0) return undefined;
  return columns.map(({ name, type }) => `MODIFY ${name} ${inByteCollation(database, type)}`).join(', ');
}

/** Whether a table is larger than `most`, by the server's estimate and, since that may be far off (4,294,967,295 rows), by a count up to `most`. */
async function isLarge(
  database: Database,
  sql: SqlRunner,
  table: string,
  estimate: typeof copiedAtMost,
  most: typeof copiedAtMost,
): Promise<boolean> {
  if (estimate.rows <= most.rows && estimate.bytes <= most.bytes) return false;
  const [counted] = await sql.rows<{ n: string | number }>(
    `SELECT COUNT(*) AS n FROM (SELECT 1 FROM ${database.table(table)} LIMIT ${most.rows + 1}) c`,
  );
  const rows = Number(counted?.n);
  return rows > most.rows || rows * (estimate.bytes / Math.max(1, estimate.rows)) > most.bytes;
}
