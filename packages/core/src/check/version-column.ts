import { InvalidArgumentError } from '../errors/errors.ts';

const counters = /^(int|integer|bigint|smallint|mediumint|tinyint|serial|bigserial|numeric|decimal|number|unsigned)/;
const texts = /^(char|varchar|character|text|tinytext|mediumtext|longtext|nvarchar|uuid|uniqueidentifier|binary|varbinary|bytea|blob|$)/;
const time = /^\d{4}-\d\d-\d\d([ T]|$)/;

/**
 * Checks that a column can have another value after each change of its row: a number that each change increments, or a text or uuid that each
 * change replaces by a new one. A time can't: two changes in one second leave the same DATETIME or TIMESTAMP. Neither can a time with
 * microseconds: what writes it is often a clock of milliseconds, or one that was set back, and two transactions may begin in one microsecond.
 * @param type the declared type, in lower case, as `tableColumns` returns it
 * @throws InvalidArgumentError with what to use instead
 */
export function requireVersionColumn(table: string, column: string, type: string): void {
  // tinyint(1) is how MySQL writes BOOLEAN.
  if ((counters.test(type) && !type.startsWith('tinyint(1)') && !type.startsWith('interval')) || texts.test(type)) return;
  throw unfit(table, column, `is ${type.toUpperCase()}`);
}

/** As {@link requireVersionColumn}, for a value of a column of text: it may be a time, too. `null` says nothing of changes either. */
export function requireVersionValue(table: string, column: string, value: string | null): void {
  if (value === null) throw unfit(table, column, 'has no value in a row');
  if (time.test(value)) throw unfit(table, column, `holds times, such as ${JSON.stringify(value.slice(0, 40))}`);
}

function unfit(table: string, column: string, why: string): InvalidArgumentError {
  return new InvalidArgumentError(
    `The version column ${column} of ${table} ${why}, which two changes can have in common: the second would be marked as done and never handled. Use a column of whole numbers that each change increments, as in version = version + 1.`,
  );
}
