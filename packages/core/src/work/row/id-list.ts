/** A condition `id IN (…)` in the cheapest form of each database, exact for 64-bit ids. */
export interface IdList {
  readonly sql: string;
  readonly params: readonly unknown[];
}

/** Makes the condition. @throws TypeError for a text that is not a decimal id */
export function idList(family: 'postgres' | 'mysql' | 'sqlite', ids: readonly string[]): IdList {
  for (const id of ids) if (!/^\d{1,20}$/.test(id)) throw new TypeError(`not an id: ${id}`);
  // One text of all ids: in an array the driver would quote and escape each of them.
  if (family === 'postgres') return { sql: 'id = ANY(?::bigint[])', params: [`{${ids.join(',')}}`] };
  // The decimal texts become JSON numbers, which SQLite reads as 64-bit integers.
  if (family === 'sqlite') return { sql: 'id IN (SELECT value FROM json_each(?))', params: [`[${ids.join(',')}]`] };
  return { sql: `id IN (${ids.join(',') || 'NULL'})`, params: [] };
}
