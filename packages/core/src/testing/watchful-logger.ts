import type { Logger } from '../observe/logger.ts';

/** A silent logger that remembers which of our statements a database refused as wrong. */
export interface WatchfulLogger extends Logger {
  /** The refusals: an invalid value, a syntax error, a column or table that does not exist. */
  readonly refusals: readonly string[];
}

/** SQLSTATE classes 22 (invalid data) and 42 (syntax, or a name that does not exist). */
const postgres = /^(22|42)[0-9A-Z]{3}$/;
/** SQLITE_ERROR: the same, of `node:sqlite`. */
const sqlite = 1;
/** A column, a syntax error, a table, an out of range, an incorrect or an invalid value. */
const mysql = new Set([1054, 1064, 1146, 1264, 1292, 1366, 1690]);

/**
 * Makes a logger for tests of loops. A loop tries again after a failure, so a statement that the database refuses now and then slows the work
 * down and fails no test: expect `refusals` to be empty at the end.
 */
export function watchfulLogger(): WatchfulLogger {
  const refusals: string[] = [];
  const look = (fields: object, message: string): void => {
    for (let error: unknown = (fields as { err?: unknown }).err; error instanceof Error; error = error.cause) {
      const { code, errno, errcode } = error as { code?: unknown; errno?: unknown; errcode?: unknown };
      const refused = (typeof code === 'string' && postgres.test(code)) || mysql.has(Number(errno)) || errcode === sqlite;
      if (refused) refusals.push(`${message}: ${error.message}`);
    }
  };
  return { refusals, debug: look, info: look, warn: look, error: look };
}
