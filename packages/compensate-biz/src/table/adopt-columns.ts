import { type Database, InvalidArgumentError, inByteCollation, nullableColumns, type SqlRunner } from '@holdfast/core';
import { taskStatuses } from './statuses.ts';

/** A column that the package needs, with its type. */
export interface Column {
  readonly name: string;
  readonly type: string;
  /** The default in new rows, where it is not a constant. */
  readonly createDefault?: string;
}

/** Columns that a classic table has, with the type to add where one is missing. */
const classic = {
  id: 'BIGINT NOT NULL PRIMARY KEY',
  biz_id: 'VARCHAR(191) NULL',
  biz_type: 'VARCHAR(100) NOT NULL',
  context: 'TEXT NULL',
  status: "VARCHAR(20) NOT NULL DEFAULT 'WAIT_HANDLE'",
  cnt: 'INTEGER NOT NULL DEFAULT 0',
  priority: 'INTEGER NULL',
  last_failed_reason: 'TEXT NULL',
  updated_at: 'TIMESTAMP NULL',
};

/**
 * The statements that make an existing table fit: they add the columns that are missing, and widen classic ones that are too narrow for what
 * is written into them.
 * @param existing the columns that the table has, with their types
 * @throws InvalidArgumentError for a column that does not fit, with the statement to run: other code may rely on the column, so `migrate` does
 *   not change its meaning
 */
export async function adoptColumns(
  database: Database,
  sql: SqlRunner,
  columns: readonly Column[],
  existing: ReadonlyMap<string, string>,
  text: string,
): Promise<readonly string[]> {
  const nullable = await nullableColumns(database, sql, 'compensate_biz');
  const t = database.table('compensate_biz');
  for (const [name, type] of Object.entries(classic))
    if (!existing.has(name)) throw unfit(name, 'is missing', `ALTER TABLE ${t} ADD COLUMN ${name} ${type}`);
  for (const column of columns) {
    const has = existing.get(column.name);
    if (has !== undefined) requireFit(database, column, has, nullable.has(column.name));
  }
  if (database.family === 'postgres' && existing.get('context')?.startsWith('json'))
    throw unfit('context', 'is JSON, and Holdfast writes text', `ALTER TABLE ${t} ALTER COLUMN context TYPE TEXT USING context::text`);
  if (database.family === 'postgres') await requireTexts(database, sql, existing);
  const bizId = existing.get('biz_id') ?? '';
  // PostgreSQL puts no text into a column of numbers; the other databases convert it. Not widened here, since it rewrites the table under a lock.
  if (database.family === 'postgres' && !/char|text|user-defined/i.test(bizId))
    throw unfit(
      'biz_id',
      `is ${bizId.toUpperCase()}, and Holdfast writes text`,
      `ALTER TABLE ${t} ALTER COLUMN biz_id TYPE VARCHAR(191) USING biz_id::varchar`,
    );
  const statements: string[] = [];
  // A column is added with a constant default, which rewrites no row; then it gets the default for new rows of old code.
  for (const column of columns) {
    if (existing.has(column.name)) continue;
    statements.push(`ALTER TABLE ${t} ADD COLUMN ${column.name} ${inByteCollation(database, column.type)}`);
    if (column.createDefault && database.family !== 'sqlite')
      statements.push(`ALTER TABLE ${t} ALTER COLUMN ${column.name} SET DEFAULT ${column.createDefault}`);
  }
  const [cnt, reason, status] = ['cnt', 'last_failed_reason', 'status'].map((name) => existing.get(name) ?? '');
  if (database.family === 'mysql') {
    // In one statement, since the server copies the table for it.
    const wider = [
      ...(cnt?.startsWith('tinyint') ? ['MODIFY cnt INT NOT NULL DEFAULT 0'] : []),
      ...(reason?.startsWith('varchar') || reason?.startsWith('char') ? [`MODIFY last_failed_reason ${text} NULL`] : []),
      ...(isNarrow(status) ? ["MODIFY status VARCHAR(20) NOT NULL DEFAULT 'WAIT_HANDLE'"] : []),
    ];
    if (wider.length > 0) statements.push(`ALTER TABLE ${t} ${wider.join(', ')}`);
  } else if (database.family === 'postgres') {
    if (cnt === 'smallint') statements.push(`ALTER TABLE ${t} ALTER COLUMN cnt TYPE INTEGER`);
    if (reason?.startsWith('character')) statements.push(`ALTER TABLE ${t} ALTER COLUMN last_failed_reason TYPE TEXT`);
    statements.push(`ALTER TABLE ${t} ALTER COLUMN updated_at SET DEFAULT now()`);
  }
  return statements;
}

/** MySQL, MariaDB: whether a column does not hold each of the statuses that Holdfast writes. */
function isNarrow(status: string = ''): boolean {
  return status.startsWith('enum') || Number(/^(?:var)?char\((\d+)\)/.exec(status)?.[1] ?? 20) < longestStatus;
}

const longestStatus = Math.max(...taskStatuses.map((status) => status.length));

/**
 * PostgreSQL: an ENUM takes neither our statuses nor the names of new types, and a CHAR fills them up with spaces. Not changed here, since it rewrites
 * the table under a lock.
 */
async function requireTexts(database: Database, sql: SqlRunner, existing: ReadonlyMap<string, string>): Promise<void> {
  const enums = await sql.rows<{ name: string }>(
    "SELECT c.column_name AS name FROM information_schema.columns c JOIN pg_namespace n ON n.nspname = c.udt_schema JOIN pg_type y ON y.typnamespace = n.oid AND y.typname = c.udt_name WHERE y.typtype = 'e' AND c.table_name = ? AND c.table_schema = COALESCE(?, current_schema())",
    [`${database.tablePrefix}compensate_biz`, database.schema ?? null],
  );
  for (const [name, type, fallback] of [
    ['status', 'VARCHAR(20)', "'WAIT_HANDLE'"],
    ['biz_type', 'VARCHAR(100)', undefined],
  ] as const) {
    const isEnum = enums.some((column) => column.name === name);
    if (!isEnum && existing.get(name) !== 'character') continue;
    const set = fallback === undefined ? '' : `, ALTER COLUMN ${name} SET DEFAULT ${fallback}`;
    throw unfit(
      name,
      isEnum ? 'is an ENUM, and Holdfast writes other values, too' : 'is a CHAR, which fills up what is written with spaces',
      `ALTER TABLE ${database.table('compensate_biz')} ALTER COLUMN ${name} DROP DEFAULT, ALTER COLUMN ${name} TYPE ${type} USING rtrim(${name}::text)${set}`,
    );
  }
}

function requireFit(database: Database, { name, type }: Column, has: string, nullable: boolean): void {
  const t = database.table('compensate_biz');
  if (/^(INTEGER|BIGINT)/.test(type) && !/int|serial|numeric|decimal/.test(has))
    throw unfit(name, `is ${has.toUpperCase()}, and Holdfast counts in it`, `ALTER TABLE ${t} RENAME COLUMN ${name} TO old_${name}`);
  if (!nullable || !type.includes('NOT NULL')) return;
  const empty = /DEFAULT (\S+)/.exec(type)?.[1] ?? '0';
  const notNull =
    database.family === 'mysql'
      ? `MODIFY ${name} ${has.toUpperCase()} NOT NULL DEFAULT ${empty}`
      : `ALTER COLUMN ${name} SET DEFAULT ${empty}, ALTER COLUMN ${name} SET NOT NULL`;
  throw unfit(
    name,
    'may be NULL, and a row with NULL would never run',
    `UPDATE ${t} SET ${name} = ${empty} WHERE ${name} IS NULL; ALTER TABLE ${t} ${notNull}`,
  );
}

function unfit(name: string, why: string, statement: string): InvalidArgumentError {
  return new InvalidArgumentError(
    `The table compensate_biz can't be adopted: its column ${name} ${why}. Run ${statement}; then migrate again.`,
  );
}
