import type { Database } from '../database/database.ts';
import { InvalidArgumentError } from '../errors/errors.ts';

/** Postgres cuts longer names without an error, so that two of them may become one; MySQL and MariaDB refuse them. */
const longest = { postgres: 63, mysql: 64, sqlite: Number.POSITIVE_INFINITY } as const;

/**
 * The name of a table or an index with the prefix.
 * @throws InvalidArgumentError if the database has no names as long as that
 */
export function fittingName(database: Database, name: string): string {
  const full = `${database.tablePrefix}${name}`;
  const most = longest[database.family];
  if (full.length > most)
    throw new InvalidArgumentError(
      `${full} is a name of ${full.length} characters, and this database has names of at most ${most}. Give a tablePrefix of at most ${Math.max(0, most - name.length)} characters; it has ${database.tablePrefix.length}.`,
    );
  return full;
}
