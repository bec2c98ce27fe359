// Fragments that the dialects write differently and plan in the same way. A statement whose plan differs is written per dialect, at its use.
interface Family {
  readonly family: 'postgres' | 'mysql' | 'sqlite';
}

/** The lock at the end of a SELECT whose rows the transaction will change. Empty on SQLite, which has one writer. */
export function forUpdate({ family }: Family): string {
  return family === 'sqlite' ? '' : ' FOR UPDATE';
}

/** As {@link forUpdate}, skipping rows that another transaction has locked. */
export function skipLocked({ family }: Family): string {
  return family === 'sqlite' ? '' : ' FOR UPDATE SKIP LOCKED';
}

/** Quotes a name, so that it may be a reserved word. */
export function quoted({ family }: Family, name: string): string {
  return family === 'mysql' ? `\`${name}\`` : `"${name}"`;
}

/** Concatenates SQL expressions of texts. */
export function concat({ family }: Family, ...parts: readonly string[]): string {
  return family === 'mysql' ? `CONCAT(${parts.join(', ')})` : parts.join(' || ');
}

/** SQL for the bytes that columns of text or bytes have together in a row; NULL has none. */
export function columnBytes({ family }: Family, columns: readonly string[]): string {
  const length = { postgres: 'octet_length', mysql: 'LENGTH', sqlite: 'length' }[family];
  return columns.map((column) => `COALESCE(${length}(${column}), 0)`).join(' + ');
}

/** An INSERT that skips rows whose key exists. `rest` follows `INSERT`. It waits for a transaction that is inserting the same key. */
export function insertNew({ family }: Family, rest: string): string {
  return family === 'mysql' ? `INSERT IGNORE ${rest}` : `INSERT ${rest} ON CONFLICT DO NOTHING`;
}

/**
 * As {@link insertNew}, for rows that the transaction will lock next. On MySQL and MariaDB an INSERT IGNORE that finds a row locks it as a reader
 * does, and two transactions that both go on to lock it as writers are a deadlock; this one locks it as a writer at once. `key` is a column
 * of the key.
 */
export function insertOrLock(of: Family, rest: string, key: string): string {
  return of.family === 'mysql' ? `INSERT ${rest} ON DUPLICATE KEY UPDATE ${key} = ${key}` : insertNew(of, rest);
}
