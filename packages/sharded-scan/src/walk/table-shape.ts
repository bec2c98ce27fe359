import type { Database } from '@holdfast/core';
import { quoted, requireVersionColumn } from '@holdfast/core';
import { NotScannableError } from '../errors.ts';

/** A column of a scan's key, and the direction in which the scan goes through it. */
export interface KeyColumn {
  readonly column: string;
  readonly direction: 'asc' | 'desc';
}

/** The columns and the key of one table, as SQL for its statements. */
export interface TableShape {
  readonly table: string;
  /** SQL that selects every column by its name. 64-bit and key columns are selected as text, which no driver rounds. */
  readonly selected: string;
  readonly key: readonly KeyColumn[];
  /** For each key column: SQL that converts the column to text. */
  readonly toText: readonly ((column: string) => string)[];
  /** For each key column: SQL that converts a text parameter to the column's type. */
  readonly fromText: readonly string[];
}

/**
 * Reads a table's columns and indexes from the catalogue. The key must be unique, NOT NULL and indexed in its order; otherwise a scan would
 * skip rows that share a key or have none.
 * @throws NotScannableError with the statement that fixes the table; InvalidArgumentError for a version column that cannot be one
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
      throw new NotScannableError(`The table ${table} has no column ${name}; it has ${[...columns.keys()].join(', ')}.`);
  const typeOf = (name: string): string => columns.get(name)?.type ?? '';
  if (version !== undefined) requireVersionColumn(table, version, typeOf(version));
  for (const name of names)
    if (columns.get(name)?.nullable)
      throw new NotScannableError(
        `The key column ${name} of ${table} may be NULL, and such rows would be skipped: ${notNullSql(database, table, name, typeOf(name))}`,
      );
  if (!unique.some((index) => index.length === names.length && index.every((name, i) => name === names[i])))
    throw new NotScannableError(
      `No unique index of ${table} is on (${names.join(', ')}), so rows that tie would be skipped and each batch would sort the table: CREATE UNIQUE INDEX ${table}_${names.join('_')} ON ${table} (${names.join(', ')})`,
    );
  const unfit = names.find((name) => textDiffers(database, typeOf(name)));
  if (unfit !== undefined)
    throw new NotScannableError(
      `The key column ${unfit} of ${table} is ${typeOf(unfit).toUpperCase()}, whose text does not sort and compare as the column does; use another unique index as the key.`,
    );
  const stored = database.family === 'sqlite' ? await storedClasses(database, table, names) : undefined;
  const keyType = (name: string): string => stored?.get(name) ?? typeOf(name);
  const selected = [...columns].map(([name, { type }]) => {
    const own = `t.${quoted(database, name)}`;
    const wide = /^(bigint|int8|decimal|numeric)/.test(type);
    const text = names.includes(name) ? toText(database, keyType(name), own) : name === version || wide ? database.text(own) : undefined;
    if (wide && exact) return own;
    return text === undefined ? own : `${text} AS ${quoted(database, name)}`;
  });
  return {
    table,
    selected: selected.join(', '),
    key,
    toText: names.map((name) => (column: string) => toText(database, keyType(name), column)),
    fromText: names.map((name) => fromText(database, keyType(name))),
  };
}

const exactDrivers = new WeakMap<Database, Promise<boolean>>();

/**
 * True if the driver returns wide numbers as the text that Postgres sends, as `pg` does unless the service has set a type parser. Such
 * numbers are then not cast to text in the database: the cast takes a third of the time of reading them.
 */
function readsExactly(database: Database): Promise<boolean> {
  if (database.family !== 'postgres') return Promise.resolve(false);
  let known = exactDrivers.get(database);
  if (!known) {
    known = database
      .rows<{ i: unknown; n: unknown }>("SELECT 9007199254740993::bigint AS i, '9007199254740993.10'::numeric AS n")
      .then(([row]) => row?.i === '9007199254740993' && row.n === '9007199254740993.10');
    known.catch(() => exactDrivers.delete(database));
    exactDrivers.set(database, known);
  }
  return known;
}

/**
 * True if the text of a type does not order and compare as its values do: floating point loses digits as text, the text of MySQL's
 * TIMESTAMP depends on the session's time zone, its ENUM sorts by position but compares as text, and the text of PostgreSQL's MONEY depends on
 * the session's locale. A scan would skip rows, or read a row for ever.
 */
function textDiffers(database: Database, type: string): boolean {
  if (database.family === 'postgres') return type === 'money';
  if (database.family === 'mysql') return /^(float|double|real|timestamp|enum|set|bit|json)/.test(type);
  return database.family === 'sqlite' && /real|floa|doub|dec|num/.test(type);
}

/**
 * SQLite: the storage class of each key column's values. Its columns hold values of any class, whatever their declared type says: a number in a
 * column without a type is not equal to its text. So the class decides how a key is compared. Reads the whole index once.
 * @throws NotScannableError if a column holds several classes, which sort one after another, or fractions
 */
async function storedClasses(database: Database, table: string, names: readonly string[]): Promise<ReadonlyMap<string, string>> {
  const classes = new Map<string, string>();
  for (const name of names) {
    const column = quoted(database, name);
    // Drivers write whole numbers as floating point where the column has no type; up to 2^53 they are the same.
    const whole = `typeof(${column}) = 'real' AND ${column} = CAST(${column} AS INTEGER) AND abs(${column}) < 9007199254740992`;
    const rows = await database.rows<{ class: string }>(
      `SELECT DISTINCT CASE WHEN ${whole} THEN 'integer' ELSE typeof(${column}) END AS ${quoted(database, 'class')} FROM ${database.table(table)}`,
    );
    const found = rows.map((row) => row.class).sort();
    const [only] = found;
    if (found.length > 1 || only === 'real')
      throw new NotScannableError(
        `The key column ${name} of ${table} holds values of the class ${found.join(' and ')}, whose texts do not sort and compare as the values do: store one class, integer, text or blob (SELECT ${name}, typeof(${name}) FROM ${table}), or use another unique index as the key.`,
      );
    if (only !== undefined) classes.set(name, only);
  }
  return classes;
}

function isBinary(database: Database, type: string): boolean {
  return database.family !== 'postgres' && /binary|blob/.test(type);
}

function toText(database: Database, type: string, column: string): string {
  if (isBinary(database, type)) return `HEX(${column})`;
  if (database.family === 'sqlite' && type === 'integer') return `CAST(CAST(${column} AS INTEGER) AS TEXT)`;
  // In UTC, whatever the session's time zone is. PostgreSQL reads `infinity+00` as infinity.
  if (type === 'timestamp with time zone') return `(CAST(${column} AT TIME ZONE 'UTC' AS TEXT) || '+00')`;
  return database.text(column);
}

/** MySQL and MariaDB compare a string with a number in floating point, which is not exact above 2^53; hence the casts. */
function fromText(database: Database, type: string): string {
  if (database.family === 'postgres') return `?::${type}`;
  if (isBinary(database, type)) return 'UNHEX(?)';
  if (database.family === 'mysql') {
    if (/^(tiny|small|medium|big)?int/.test(type)) return `CAST(? AS ${type.includes('unsigned') ? 'UNSIGNED' : 'SIGNED'})`;
    // In the column's own precision: one of more digits before the point would not fit 65 digits of which 30 are after it.
    const decimal = /^(?:decimal|numeric)\(\d+,\d+\)/.exec(type);
    if (decimal) return `CAST(? AS ${decimal[0]})`;
    return '?';
  }
  return type === 'integer' ? 'CAST(? AS INTEGER)' : '?';
}

/** The columns in their order, with their SQL types and nullability. */
async function describeColumns(
  database: Database,
  table: string,
): Promise<ReadonlyMap<string, { readonly type: string; readonly nullable: boolean }>> {
  const sql = {
    // A column that is an alias of the rowid is never NULL, although the catalogue reports it as nullable.
    sqlite: `SELECT name, lower(type) AS type, CASE WHEN "notnull" = 0 AND NOT (pk = 1 AND lower(type) = 'integer') THEN 1 ELSE 0 END AS nullable FROM pragma_table_info(?)`,
    // to_regclass finds the table by the search path, as a query does. The modifier -1 gives bpchar, which unlike character truncates
    // nothing.
    postgres: `SELECT attname AS name, format_type(atttypid, -1) AS type, CASE WHEN attnotnull THEN 0 ELSE 1 END AS nullable FROM pg_attribute WHERE attrelid = to_regclass(?) AND attnum > 0 AND NOT attisdropped ORDER BY attnum`,
    mysql: `SELECT column_name AS name, column_type AS type, CASE WHEN is_nullable = 'YES' THEN 1 ELSE 0 END AS nullable FROM information_schema.columns WHERE table_name = ? AND table_schema = DATABASE() ORDER BY ordinal_position`,
  }[database.family];
  const rows = await database.rows<{ name: string; type: string; nullable: number | string }>(sql, [catalogueName(database, table)]);
  return new Map(rows.map(({ name, type, nullable }) => [name, { type, nullable: Number(nullable) === 1 }]));
}

/** A table's name in the form that the catalogue queries take. */
function catalogueName(database: Database, table: string): string {
  return database.family === 'postgres' ? `"${table}"` : table;
}

function notNullSql(database: Database, table: string, column: string, type: string): string {
  if (database.family === 'postgres') return `ALTER TABLE ${table} ALTER COLUMN ${column} SET NOT NULL`;
  if (database.family === 'mysql') return `ALTER TABLE ${table} MODIFY ${column} ${type.toUpperCase()} NOT NULL`;
  return `declare it NOT NULL when ${table} is created`;
}

/**
 * The columns of each unique index, in order. Partial indexes are left out because they do not hold every row, and indexes on expressions
 * or on prefixes because their order differs from that of the columns.
 */
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
  // The planner never uses an index that is invisible (MySQL) or ignored (MariaDB).
  const usedByPlanner = dialect === 'mysql' ? "is_visible = 'YES'" : "ignored = 'NO'";
  const rows = await database.rows<{ index_name: string; column_name: string }>(
    dialect === 'postgres'
      ? `SELECT i.indexrelid::text AS index_name, a.attname AS column_name FROM pg_index i CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k(attnum, position) JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum WHERE i.indrelid = to_regclass(?) AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL AND k.position <= i.indnkeyatts ORDER BY i.indexrelid, k.position`
      : `SELECT index_name AS index_name, column_name AS column_name FROM information_schema.statistics WHERE table_name = ? AND table_schema = DATABASE() AND non_unique = 0 AND sub_part IS NULL AND ${usedByPlanner} ORDER BY index_name, seq_in_index`,
    [catalogueName(database, table)],
  );
  const lists = new Map<string, string[]>();
  for (const { index_name, column_name } of rows) lists.set(index_name, [...(lists.get(index_name) ?? []), column_name]);
  return [...lists.values()];
}
