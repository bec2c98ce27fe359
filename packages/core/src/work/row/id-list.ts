/** A condition `id IN (…)` in the cheapest form of each database, exact for 64-bit ids. */
export interface IdList {
  readonly sql: string;
  readonly params: readonly unknown[];
}

/** @throws TypeError for anything that is not a decimal id. */
export function idList(family: 'postgres' | 'mysql' | 'sqlite', ids: readonly string[]): IdList {
  for (const id of ids) if (!/^\d{1,20}$/.test(id)) throw new TypeError(`not an id: ${id}`);
  // As text: the driver would quote and escape each of them.
  if (family === 'postgres') return { sql: 'id = ANY(?::bigint[])', params: [`{${ids.join(',')}}`] };
  // JSON numbers written from decimal text: SQLite reads them as 64-bit integers.
  if (family === 'sqlite') return { sql: 'id IN (SELECT value FROM json_each(?))', params: [`[${ids.join(',')}]`] };
  return { sql: `id IN (${ids.join(',') || 'NULL'})`, params: [] };
}
