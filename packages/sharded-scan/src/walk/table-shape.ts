import type { Database } from '@holdfast/core';
import { NotScannableError } from '../errors.ts';

/** A column that a scan is ordered by. */
export interface KeyColumn {
  readonly column: string;
  readonly direction: 'asc' | 'desc';
}

/** What a scan must know of one table. */
export interface TableShape {
  readonly table: string;
  /** SQL that selects every column by its name, 64-bit and key columns as text, which no driver rounds. */
  readonly selected: string;
  readonly key: readonly KeyColumn[];
  /** SQL that makes the text of a key column from its name. */
  readonly toText: readonly ((column: string) => string)[];
  /** SQL that makes a value of the type of each key column from its text. */
  readonly fromText: readonly string[];
}

/**
 * Looks at a table and refuses what a scan could not walk: the key must be unique, not null and indexed in its order, or rows that
 * tie or have none would be skipped.
 * @throws NotScannableError with the statement that mends it
 */
export async function tableShape(database: Database, table: string, key: readonly KeyColumn[], version?: string): Promise<TableShape> {
  const [columns, unique, exact] = await Promise.all([
    describeColumns(database, table),
    uniqueKeys(database, table),
    readsExactly(database),
  ]);
  if (columns.size === 0)
    throw new NotScannableError(`There is no table ${table}. Create it, or correct the scan's table or the topology's suffix.`);
  const names = key.map(({ column }) => column);
  for (const name of version === undefined ? names : [...names, version])
    if (!columns.has(name))
      throw new NotScannableError(`The table ${table} has no column ${name} to go by; it has ${[...columns.keys()].join(', ')}.`);
  const typeOf = (name: string): string => columns.get(name)?.type ?? '';
  for (const name of names)
    if (columns.get(name)?.nullable)
      throw new NotScannableError(
        `The key column ${name} of ${table} may be NULL, and such rows would be skipped: ${notNullSql(database, table, name, typeOf(name))}`,
      );
  if (!unique.some((index) => index.length === names.length && index.every((name, i) => name === names[i])))
    throw new NotScannableError(
      `No unique index of ${table} is on (${names.join(', ')}), so rows that tie would be skipped and each batch would sort the table: CREATE UNIQUE INDEX ${table}_${names.join('_')} ON ${table} (${names.join(', ')})`,
    );
  const unfit = names.find((name) => hasNoText(database, typeOf(name)));
  if (unfit !== undefined)
    throw new NotScannableError(
      `The key column ${unfit} of ${table} is ${typeOf(unfit).toUpperCase()}, of which there is no text that sorts and compares as it does: go by another unique index.`,
    );
  const quote = database.family === 'mysql' ? '`' : '"';
  const selected = [...columns].map(([name, { type }]) => {
    const quoted = `t.${quote}${name}${quote}`;
    const wide = /^(bigint|int8|decimal|numeric)/.test(type);
    const text = names.includes(name) ? toText(database, type, quoted) : name === version || wide ? database.text(quoted) : undefined;
    if (wide && exact) return quoted;
    return text === undefined ? quoted : `${text} AS ${quote}${name}${quote}`;
  });
  return {
    table,
    selected: selected.join(', '),
    key,
    toText: names.map((name) => (column: string) => toText(database, typeOf(name), column)),
    fromText: names.map((name) => fromText(database, typeOf(name))),
  };
}

const exactly = new WeakMap<Database, Promise<boolean>>();

/**
 * Whether the driver hands wide numbers over as the text that Postgres sends, as `pg` does unless somebody has set it a parser. Then
 * they are not cast to text in the database, which costs a third of reading them.
 */
function readsExactly(database: Database): Promise<boolean> {
  if (database.family !== 'postgres') return Promise.resolve(false);
  let known = exactly.get(database);
  if (!known) {
    known = database
      .rows<{ i: unknown; n: unknown }>("SELECT 9007199254740993::bigint AS i, '9007199254740993.10'::numeric AS n")
      .then(([row]) => row?.i === '9007199254740993' && row.n === '9007199254740993.10');
    known.catch(() => exactly.delete(database));
    exactly.set(database, known);
  }
  return known;
}

/**
 * Floating point loses digits as text, MySQL's TIMESTAMP is another text in each session's time zone, and its ENUM sorts by position
 * but compares as text: a scan would skip rows, or read one for ever.
 */
function hasNoText(database: Database, type: string): boolean {
  if (database.family === 'mysql') return /^(float|double|real|timestamp|enum|set|bit|json)/.test(type);
  return database.family === 'sqlite' && /real|floa|doub|dec|num/.test(type);
}

function isBinary(database: Database, type: string): boolean {
  return database.family !== 'postgres' && /binary|blob/.test(type);
}

function toText(database: Database, type: string, column: string): string {
  return isBinary(database, type) ? `HEX(${column})` : database.text(column);
}

/** A string compared with a number is compared in floating point by MySQL and MariaDB, and 2^53 is then the end of exactness. */
function fromText(database: Database, type: string): string {
  if (database.family === 'postgres') return `?::${type}`;
  if (isBinary(database, type)) return 'UNHEX(?)';
  if (database.family === 'mysql') {
    if (/^(tiny|small|medium|big)?int/.test(type)) return `CAST(? AS ${type.includes('unsigned') ? 'UNSIGNED' : 'SIGNED'})`;
    if (/^(decimal|numeric)/.test(type)) return 'CAST(? AS DECIMAL(65, 30))';
    return '?';
  }
  return /int/.test(type) ? 'CAST(? AS INTEGER)' : '?';
}

/** Columns in their order: what SQL calls their types, and whether they may be NULL. */
async function describeColumns(
  database: Database,
  table: string,
): Promise<ReadonlyMap<string, { readonly type: string; readonly nullable: boolean }>> {
  const sql = {
    // The rowid's own name is never NULL, though it says so.
    sqlite: `SELECT name, lower(type) AS type, CASE WHEN "notnull" = 0 AND NOT (pk = 1 AND lower(type) = 'integer') THEN 1 ELSE 0 END AS nullable FROM pragma_table_info(?)`,
    // Found as a query finds it, by the search path; -1 says bpchar, which unlike character cuts nothing off.
    postgres: `SELECT attname AS name, format_type(atttypid, -1) AS type, CASE WHEN attnotnull THEN 0 ELSE 1 END AS nullable FROM pg_attribute WHERE attrelid = to_regclass(?) AND attnum > 0 AND NOT attisdropped ORDER BY attnum`,
    mysql: `SELECT column_name AS name, column_type AS type, CASE WHEN is_nullable = 'YES' THEN 1 ELSE 0 END AS nullable FROM information_schema.columns WHERE table_name = ? AND table_schema = DATABASE() ORDER BY ordinal_position`,
  }[database.family];
  const rows = await database.rows<{ name: string; type: string; nullable: number | string }>(sql, [named(database, table)]);
  return new Map(rows.map(({ name, type, nullable }) => [name, { type, nullable: Number(nullable) === 1 }]));
}

/** A table's name as the catalogues want it. */
function named(database: Database, table: string): string {
  return database.family === 'postgres' ? `"${table}"` : table;
}

function notNullSql(database: Database, table: string, column: string, type: string): string {
  if (database.family === 'postgres') return `ALTER TABLE ${table} ALTER COLUMN ${column} SET NOT NULL`;
  if (database.family === 'mysql') return `ALTER TABLE ${table} MODIFY ${column} ${type.toUpperCase()} NOT NULL`;
  return `declare it NOT NULL when ${table} is created`;
}

/** Columns of each unique index that holds every row, in order; none with expressions or cut texts, whose order is another. */
async function uniqueKeys(database: Database, table: string): Promise<readonly (readonly string[])[]> {
  if (database.family === 'sqlite') {
    const primary = await database.rows<{ name: string }>('SELECT name FROM pragma_table_info(?) WHERE pk > 0 ORDER BY pk', [table]);
    const indexes = await database.rows<{ name: string }>('SELECT name FROM pragma_index_list(?) WHERE "unique" = 1 AND partial = 0', [
      table,
    ]);
    const lists: string[][] = [primary.map(({ name }) => name)];
    for (const { name } of indexes)
      lists.push(
        (await database.rows<{ name: string }>('SELECT name FROM pragma_index_info(?) ORDER BY seqno', [name])).map((row) => row.name),
      );
    return lists;
  }
  const { dialect } = await database.describe();
  // The planner never uses an invisible (MySQL) or ignored (MariaDB) index.
  const usedByPlanner = dialect === 'mysql' ? "is_visible = 'YES'" : "ignored = 'NO'";
  const rows = await database.rows<{ index_name: string; column_name: string }>(
    dialect === 'postgres'
      ? `SELECT i.indexrelid::text AS index_name, a.attname AS column_name FROM pg_index i CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k(attnum, position) JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum WHERE i.indrelid = to_regclass(?) AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL AND k.position <= i.indnkeyatts ORDER BY i.indexrelid, k.position`
      : `SELECT index_name AS index_name, column_name AS column_name FROM information_schema.statistics WHERE table_name = ? AND table_schema = DATABASE() AND non_unique = 0 AND sub_part IS NULL AND ${usedByPlanner} ORDER BY index_name, seq_in_index`,
    [named(database, table)],
  );
  const lists = new Map<string, string[]>();
  for (const { index_name, column_name } of rows) lists.set(index_name, [...(lists.get(index_name) ?? []), column_name]);
  return [...lists.values()];
}
