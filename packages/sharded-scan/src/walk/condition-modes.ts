import { type Database, sqlModesOfService } from '@holdfast/core';
import { NotScannableError } from '../errors.ts';

/** The caller's condition as SQL. */
export interface Condition {
  readonly sql: string;
  readonly params: readonly unknown[];
}

/** What a mode of MySQL or MariaDB makes mean something else. */
interface Difference {
  readonly mode: string;
  /** @param bare the SQL without what is in quotes: `""` stands for a text in double quotes, and `''` for an empty one in single quotes */
  readonly occurs: (bare: string, condition: Condition) => boolean;
  readonly advice: string;
}

const operatorsWithNot = 'in|null|like|between|exists|regexp|rlike';
const notBeforeAnOperand = new RegExp(`\\bnot\\s+(?!(${operatorsWithNot})\\b|\\()`, 'i');

const differences: readonly Difference[] = [
  {
    mode: 'ANSI_QUOTES',
    occurs: (bare) => bare.includes('"'),
    advice: 'write a name as ?? or in backticks, and a text as a binding or in single quotes, not in double quotes',
  },
  { mode: 'PIPES_AS_CONCAT', occurs: (bare) => bare.includes('||'), advice: 'write CONCAT or OR, not ||' },
  {
    mode: 'HIGH_NOT_PRECEDENCE',
    occurs: (bare) => notBeforeAnOperand.test(bare),
    advice: 'put what NOT negates in parentheses (in knex: whereNot with a function)',
  },
  {
    mode: 'NO_BACKSLASH_ESCAPES',
    occurs: (bare, { sql, params }) =>
      sql.includes('\\') ||
      (/\blike\b/i.test(bare) && !/\bescape\b/i.test(bare) && params.some((one) => typeof one === 'string' && one.includes('\\'))),
    advice: "give a text with a backslash as a binding, and LIKE an escape character of its own (LIKE ? ESCAPE '|')",
  },
  {
    mode: 'EMPTY_STRING_IS_NULL',
    occurs: (bare, { params }) => bare.includes("''") || params.includes(''),
    advice: 'write IS NULL or IS NOT NULL, or CHAR_LENGTH(…) = 0, not an empty text',
  },
];

/**
 * MySQL, MariaDB: refuses a condition that means something else on the service's connections than on ours, whose `sql_mode` is set. It would
 * choose other rows, without an error. Asks the database only about a condition that may.
 * @throws NotScannableError
 */
export async function requireSameMeaning(database: Database, table: string, condition: Condition): Promise<void> {
  if (database.family !== 'mysql') return;
  const bare = withoutQuoted(condition.sql);
  const occurring = differences.filter(({ occurs }) => occurs(bare, condition));
  if (occurring.length === 0) return;
  const modes = await sqlModesOfService(database);
  const found = occurring.filter(({ mode }) => modes.has(mode));
  if (found.length === 0) return;
  throw new NotScannableError(
    `The condition of the scan of ${table} means something else under ${found.map(({ mode }) => mode).join(', ')}, which the sql_mode of your connections has and that of a scan has not: ${found.map(({ advice }) => advice).join('; ')}.`,
  );
}

/** A backslash in a text counts as an escape: where it does not, it is refused wherever it is. */
function withoutQuoted(sql: string): string {
  return sql.replace(/'(?:[^'\\]|''|\\[\s\S])*'|"(?:[^"\\]|""|\\[\s\S])*"|`[^`]*`/g, (quoted) =>
    quoted.startsWith('"') ? '""' : quoted === "''" ? "''" : ' x ',
  );
}
