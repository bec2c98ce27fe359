import type { Database } from '../database/database.ts';
import type { SqlRunner } from '../database/sql-runner.ts';
import { namedColumns } from '../database/table-columns.ts';
import { InvalidArgumentError } from '../errors/errors.ts';

/** An index as a statement asks for it, or as the database has it. */
interface IndexShape {
  /** Without schema and quotes. */
  readonly table: string;
  readonly unique: boolean;
  /** Names of columns, each with ` desc` if it is in descending order. */
  readonly columns: readonly string[];
  /** The condition of a partial index; `undefined` if it has none. */
  readonly condition: string | undefined;
}

/** `drop`: the statement that removes what is left of an index that was not built to its end. */
type Existing = { readonly found: 'none' } | { readonly found: 'ours' } | { readonly found: 'broken'; readonly drop: string };

/** Around names: " and `. */
const quotes = /[\x22\x60]/g;
const indexStatement =
  /^CREATE (UNIQUE )?INDEX (?:CONCURRENTLY )?(?:IF NOT EXISTS )?(\w+) ON ([\w.]+) \(((?:[^()]|\(\d+\))*)\)(?: WHERE (.*))?$/is;
const tableStatement = /^CREATE TABLE IF NOT EXISTS ([\w.]+) \((.*)\)[^()]*$/is;

/**
 * Looks for the object that a statement creates. The database itself would take any object of that name for it, or refuse the statement if a
 * migration that was interrupted has run it: MySQL has no CREATE INDEX IF NOT EXISTS.
 * @throws InvalidArgumentError if an object of that name exists that is not ours
 */
export async function existingObject(database: Database, sql: SqlRunner, statement: string): Promise<Existing> {
  const plain = statement.replaceAll(quotes, '');
  const table = tableStatement.exec(plain);
  if (table) return existingTable(database, sql, bare(table[1] ?? ''), table[2] ?? '');
  const index = indexStatement.exec(plain);
  if (!index) return { found: 'none' };
  const [, unique, name = '', on = '', columns = '', condition] = index;
  const wanted: IndexShape = {
    table: bare(on),
    unique: unique !== undefined,
    columns: columns.split(',').map(column),
    condition,
  };
  const existing = await existingIndex[database.family](database, sql, name, wanted.table);
  if (existing === undefined) return { found: 'none' };
  if (existing.broken) return { found: 'broken', drop: `DROP INDEX ${existing.broken}` };
  if (sameShape(database, existing.shape, wanted)) return { found: 'ours' };
  throw new InvalidArgumentError(
    `There is an index ${name} that is not the one of Holdfast: it is ${describe(existing.shape)}, and must be ${describe(wanted)}. Drop it, or rename it; then migrate again.`,
  );
}

/** A table is ours if it has all columns of the statement. It may have more: later migrations add columns. */
async function existingTable(database: Database, sql: SqlRunner, name: string, body: string): Promise<Existing> {
  const existing = [...(await namedColumns(database, sql, name)).keys()].map((column) => column.toLowerCase());
  if (existing.length === 0) return { found: 'none' };
  const missing = columnNames(body).filter((column) => !existing.includes(column));
  if (missing.length === 0) return { found: 'ours' };
  throw new InvalidArgumentError(
    `There is a table ${name} that is not the one of Holdfast: it lacks ${missing.join(', ')}. Rename it, or give Holdfast a tablePrefix; then migrate again.`,
  );
}

interface Found {
  readonly shape: IndexShape;
  /** The quoted name of an index that was not built to its end. */
  readonly broken?: string | undefined;
}

const existingIndex: Readonly<
  Record<Database['family'], (database: Database, sql: SqlRunner, name: string, table: string) => Promise<Found | undefined>>
> = {
  async postgres(database, sql, name) {
    const [row] = await sql.rows<{
      table_name: string | null;
      is_unique: boolean | null;
      valid: boolean | null;
      partial_on: string | null;
      columns: string | null;
      path: string;
    }>(
      `SELECT t.relname AS table_name, i.indisunique AS is_unique, i.indisvalid AS valid, pg_get_expr(i.indpred, i.indrelid) AS partial_on,
         (SELECT string_agg(pg_get_indexdef(i.indexrelid, k, false) || CASE WHEN i.indoption[k - 1] & 1 = 1 THEN ' desc' ELSE '' END, ',' ORDER BY k) FROM generate_series(1, i.indnkeyatts) k) AS columns,
         c.oid::regclass::text AS path
       FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_index i ON i.indexrelid = c.oid LEFT JOIN pg_class t ON t.oid = i.indrelid
       WHERE c.relname = ? AND n.nspname = COALESCE(?, current_schema())`,
      [name, database.schema ?? null],
    );
    if (!row) return undefined;
    return {
      shape: {
        table: row.table_name ?? '',
        unique: row.is_unique === true,
        columns: (row.columns ?? '').split(',').map(column),
        condition: row.partial_on ?? undefined,
      },
      // CREATE INDEX CONCURRENTLY was interrupted.
      broken: row.valid === false ? row.path : undefined,
    };
  },
  async mysql(_database, sql, name, table) {
    const rows = await sql.rows<{ name: string | null; non_unique: unknown; direction: string | null; part: unknown }>(
      'SELECT column_name AS name, non_unique AS non_unique, COLLATION AS direction, sub_part AS part FROM information_schema.statistics WHERE table_schema = DATABASE() AND table_name = ? AND index_name = ? ORDER BY seq_in_index',
      [table, name],
    );
    if (rows.length === 0) return undefined;
    return {
      shape: {
        table,
        unique: Number(rows[0]?.non_unique) === 0,
        columns: rows.map((row) => column(`${row.name}${row.part === null ? '' : `(${row.part})`}${row.direction === 'D' ? ' desc' : ''}`)),
        condition: undefined,
      },
    };
  },
  async sqlite(_database, sql, name) {
    const [row] = await sql.rows<{ table_name: string; statement: string | null }>(
      `SELECT tbl_name AS table_name, "sql" AS statement FROM sqlite_master WHERE type = 'index' AND name = ? COLLATE NOCASE`,
      [name],
    );
    if (!row) return undefined;
    const columns = await sql.rows<{ name: string | null; down: number }>(
      'SELECT name, "desc" AS down FROM pragma_index_xinfo(?) WHERE "key" = 1 ORDER BY seqno',
      [name],
    );
    return {
      shape: {
        table: row.table_name,
        unique: /^\s*CREATE\s+UNIQUE/i.test(row.statement ?? ''),
        columns: columns.map(({ name, down }) => column(`${name}${Number(down) === 1 ? ' desc' : ''}`)),
        condition: /\sWHERE\s(.*)$/is.exec(row.statement ?? '')?.[1],
      },
    };
  },
};

function sameShape(database: Database, a: IndexShape, b: IndexShape): boolean {
  // MariaDB before 10.8 reads DESC and ignores it.
  const columns = (shape: IndexShape): string =>
    shape.columns.map((one) => (database.dialect === 'mariadb' ? one.replace(/ desc$/, '') : one)).join();
  return (
    a.table.toLowerCase() === b.table.toLowerCase() &&
    a.unique === b.unique &&
    columns(a) === columns(b) &&
    words(a.condition) === words(b.condition)
  );
}

/** The words of a condition in their order. Postgres adds casts and parentheses, and writes IN as ANY (ARRAY[…]). */
function words(condition: string | undefined): string | undefined {
  const plain = condition?.replaceAll(/::(character varying|[a-z]+)(\(\d+\))?(\[\])?/g, '');
  return plain
    ?.match(/'[^']*'|<>|[<>]=?|\w+/g)
    ?.filter((word) => !/^(any|array|in)$/i.test(word))
    .map((word) => (word.startsWith("'") ? word : word.toLowerCase()))
    .join(' ');
}

function describe({ table, unique, columns, condition }: IndexShape): string {
  if (table === '') return 'not an index';
  return `${unique ? 'unique, ' : ''}on ${table} (${columns.join(', ')})${condition === undefined ? '' : ` where ${condition}`}`;
}

/** Postgres tells the columns of an index without their collations. */
function column(text: string): string {
  return text
    .trim()
    .replaceAll(quotes, '')
    .replace(/ collate \w+/i, '')
    .replace(/ asc$/i, '')
    .replaceAll(/\s+/g, ' ')
    .toLowerCase();
}

/** The last part of a name, without quotes. */
function bare(name: string): string {
  return name.replaceAll(quotes, '').split('.').at(-1) ?? name;
}

/** The names of the columns in the parentheses of CREATE TABLE. */
function columnNames(body: string): string[] {
  const parts: string[] = [];
  let [depth, from] = [0, 0];
  const quoteless = body.replaceAll(/'[^']*'/g, (text) => '_'.repeat(text.length));
  for (let i = 0; i <= quoteless.length; i++) {
    const c = quoteless[i];
    if (c === '(') depth += 1;
    else if (c === ')') depth -= 1;
    else if ((c === ',' && depth === 0) || c === undefined) {
      parts.push(quoteless.slice(from, i));
      from = i + 1;
    }
  }
  return parts
    .map((part) => /^\s*(\w+)/.exec(part)?.[1]?.toLowerCase() ?? '')
    .filter((word) => word !== '' && !/^(primary|unique|key|index|constraint|foreign|check)$/.test(word));
}
