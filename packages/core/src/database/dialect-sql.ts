// The fragments that the dialects spell differently and plan alike. A statement whose plan differs has a text of its own, where it stands.
interface Family {
  readonly family: 'postgres' | 'mysql' | 'sqlite';
}

/** The lock at the end of a SELECT whose rows the transaction will change. Empty on SQLite, which has one writer. */
export function forUpdate({ family }: Family): string {
  return family === 'sqlite' ? '' : ' FOR UPDATE';
}

/** The same, passing over rows that another transaction has locked. */
export function skipLocked({ family }: Family): string {
  return family === 'sqlite' ? '' : ' FOR UPDATE SKIP LOCKED';
}

/** A name quoted, so that it may be a reserved word. */
export function quoted({ family }: Family, name: string): string {
  return family === 'mysql' ? `\`${name}\`` : `"${name}"`;
}

/** Texts put together. */
export function concat({ family }: Family, ...parts: readonly string[]): string {
  return family === 'mysql' ? `CONCAT(${parts.join(', ')})` : parts.join(' || ');
}

/** An INSERT that leaves out rows whose key exists. `rest` is what follows `INSERT`. Waits for a transaction that is inserting the same key. */
export function insertNew({ family }: Family, rest: string): string {
  return family === 'mysql' ? `INSERT IGNORE ${rest}` : `INSERT ${rest} ON CONFLICT DO NOTHING`;
}
