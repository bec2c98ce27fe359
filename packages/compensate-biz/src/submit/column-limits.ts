import { type Database, InvalidArgumentError, type SqlRunner } from '@holdfast/core';
import type { NewRow } from './new-row.ts';

/** The columns that a submit writes and that a table may have had before it was adopted: the option that fills each, and the type that holds all. */
const wanted = {
  biz_id: { option: 'bizId', type: 'VARCHAR(191)' },
  biz_type: { option: 'the name of the type', type: 'VARCHAR(100)' },
  context: { option: 'context', type: 'TEXT' },
  priority: { option: 'priority', type: 'INTEGER' },
  tenant: { option: 'tenant', type: 'VARCHAR(100)' },
  subject: { option: 'subject', type: 'VARCHAR(191)' },
  traceparent: { option: 'the traceparent', type: 'VARCHAR(64)' },
  child_key: { option: 'childKey', type: 'VARCHAR(191)' },
  gate: { option: 'bizId', type: 'VARCHAR(191)' },
} as const;
type Name = keyof typeof wanted;
const names = Object.keys(wanted) as readonly Name[];

/** What a column takes, where that is less than what a submit may give. */
interface Limit {
  readonly name: Name;
  /** As the table declares it, in upper case. */
  readonly declared: string;
  readonly notNull: boolean;
  readonly characters: number | undefined;
  readonly bytes: number | undefined;
  /** The least and the greatest whole number. */
  readonly range: readonly [bigint, bigint] | undefined;
}

const known = new WeakMap<Database, readonly Limit[]>();

/**
 * Refuses rows that do not fit into the columns of an adopted table. The database would refuse them with an error that does not say which option
 * is meant, and MySQL, in a session of the caller's that is not strict, would cut the value. Reads the columns with the first rows that a
 * process writes, and again before it refuses one: they may have been widened.
 * @throws InvalidArgumentError with the column, what it holds, and the statement that widens it
 */
export async function requireColumnsFit(database: Database, sql: SqlRunner, rows: readonly NewRow[]): Promise<void> {
  if (database.family === 'sqlite') return;
  const limits = known.get(database);
  if (limits && misfit(limits, rows) === undefined) return;
  const now = await readLimits(database, sql);
  known.set(database, now);
  const found = misfit(now, rows);
  if (found) throw new InvalidArgumentError(found.problem + remedy(database, found.limit));
}

interface Misfit {
  readonly limit: Limit;
  readonly problem: string;
}

function misfit(limits: readonly Limit[], rows: readonly NewRow[]): Misfit | undefined {
  for (const limit of limits)
    for (const row of rows) {
      const problem = problemOf(limit, row[limit.name] ?? null);
      if (problem !== undefined)
        return {
          limit,
          problem: `The column ${limit.name} of compensate_biz is ${limit.declared}, and ${wanted[limit.name].option} ${problem}. `,
        };
    }
  return undefined;
}

function problemOf({ notNull, characters, bytes, range }: Limit, value: string | number | null): string | undefined {
  if (value === null) return notNull ? 'is missing' : undefined;
  const text = String(value);
  if (range !== undefined) {
    const fits = /^[+-]?\d+$/.test(text) && BigInt(text) >= range[0] && BigInt(text) <= range[1];
    return fits ? undefined : `is ${JSON.stringify(value)}`;
  }
  if (characters !== undefined && text.length > characters) {
    const length = [...text].length;
    if (length > characters) return `has ${length.toLocaleString('en')} characters`;
  }
  if (bytes !== undefined && text.length * 3 > bytes) {
    const length = Buffer.byteLength(text);
    if (length > bytes) return `has ${length.toLocaleString('en')} bytes`;
  }
  return undefined;
}

function remedy(database: Database, { name, notNull }: Limit): string {
  const table = database.table('compensate_biz');
  const type = name === 'context' && database.family === 'mysql' ? 'LONGTEXT' : wanted[name].type;
  const stays = notNull && name !== 'biz_id';
  const empty = name === 'tenant' ? " DEFAULT ''" : '';
  const postgres = name === 'biz_id' && notNull ? [`ALTER COLUMN ${name} DROP NOT NULL`] : [];
  const change =
    database.family === 'mysql'
      ? `MODIFY ${name} ${type} ${stays ? 'NOT NULL' : 'NULL'}${empty}`
      : [...postgres, `ALTER COLUMN ${name} TYPE ${type}`].join(', ');
  return `Give what fits. Otherwise, run ALTER TABLE ${table} ${change}.`;
}

async function readLimits(database: Database, sql: SqlRunner): Promise<readonly Limit[]> {
  const mysql = database.family === 'mysql';
  const columns = await sql.rows<{ name: Name; type: string; declared: string; characters: string | number | null; nullable: string }>(
    `SELECT column_name AS name, data_type AS type, ${mysql ? 'column_type' : 'data_type'} AS declared, character_maximum_length AS characters, is_nullable AS nullable FROM information_schema.columns WHERE table_name = ? AND table_schema = ${mysql ? 'DATABASE()' : 'COALESCE(?, current_schema())'} AND column_name IN (${names.map((name) => `'${name}'`).join(', ')})`,
    [`${database.tablePrefix}compensate_biz`, ...(mysql ? [] : [database.schema ?? null])],
  );
  return columns.flatMap(({ name, type, declared, characters, nullable }): Limit[] => {
    const most = characters === null ? undefined : Number(characters);
    const inBytes = /text|blob|binary/.test(type);
    const length = /\d+/.exec(wanted[name].type)?.[0];
    const holds = inBytes ? contextBytes : Number(length ?? contextBytes);
    const notNull = nullable === 'NO' && mayBeNull.has(name);
    const limit: Limit = {
      name,
      declared: `${declared.toUpperCase()}${!mysql && most !== undefined ? `(${most})` : ''}${notNull ? ' NOT NULL' : ''}`,
      notNull: nullable === 'NO',
      characters: most !== undefined && most < holds && !inBytes && type !== 'enum' && type !== 'set' ? most : undefined,
      bytes: most !== undefined && most < holds && inBytes ? most : undefined,
      range: wanted[name].type === 'INTEGER' ? narrower(rangeOf(type, declared)) : rangeOf(type, declared),
    };
    return notNull || limit.characters !== undefined || limit.bytes !== undefined || limit.range !== undefined ? [limit] : [];
  });
}

/** Columns that a submit leaves NULL if their option is not given. */
const mayBeNull: ReadonlySet<Name> = new Set(['biz_id', 'subject', 'traceparent', 'child_key', 'gate']);
/** No context that MySQL takes in one statement is larger. */
const contextBytes = 2 ** 30;

const integerBits: Readonly<Record<string, bigint>> = { tinyint: 8n, smallint: 16n, mediumint: 24n, int: 32n, integer: 32n, bigint: 64n };

function rangeOf(type: string, declared: string): Limit['range'] {
  const bits = integerBits[type];
  if (bits === undefined) return undefined;
  return declared.includes('unsigned') ? [0n, 2n ** bits - 1n] : [-(2n ** (bits - 1n)), 2n ** (bits - 1n) - 1n];
}

/** A range that some priority does not fit into. */
function narrower(range: Limit['range']): Limit['range'] {
  return range !== undefined && (range[0] > -1_000_000n || range[1] < 1_000_000n) ? range : undefined;
}
