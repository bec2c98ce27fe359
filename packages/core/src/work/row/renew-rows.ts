import { forUpdate, skipLocked } from '../../database/dialect-sql.ts';
import type { TableSql } from './table-sql.ts';

interface VersionRecord {
  readonly id: string;
  readonly version: number;
}

/**
 * Prolongs the leases of `owner`'s rows. It skips locked rows: a row that an open settle has locked would otherwise delay the renewal of all
 * the others. With `locked: 'wait'` it waits for them. Returns the version of each renewed row, by id.
 */
export async function renewRows(
  work: TableSql,
  ids: readonly string[],
  owner: string,
  leaseMs: number,
  locked: 'skip' | 'wait' = 'skip',
): Promise<Map<string, number>> {
  const { database, table } = work;
  const lock = locked === 'skip' ? skipLocked(database) : forUpdate(database);
  const list = work.ids(ids);
  const where = `${list.sql} AND owner = ? AND ${work.pinned('running')}`;
  const params = [...list.params, owner];
  const set = `UPDATE ${table}${database.primaryKeyHint} SET lease_until = {now} + ?`;
  if (database.family === 'mysql') {
    return database.transaction(async (sql) => {
      const found = versions(
        await sql.rows<VersionRecord>(
          `SELECT ${work.idText}, version FROM ${table}${database.primaryKeyHint} WHERE ${where}${lock}`,
          params,
        ),
      );
      if (found.size > 0) await sql.run(`${set} WHERE ${work.ids([...found.keys()]).sql}`, [leaseMs]);
      return found;
    });
  }
  const picked = database.family === 'sqlite' ? where : `id = ANY(ARRAY(SELECT id FROM ${table} WHERE ${where}${lock}))`;
  return versions(await database.rows<VersionRecord>(`${set} WHERE ${picked} RETURNING ${work.idText}, version`, [leaseMs, ...params]));
}

/** Reads which of the rows are RUNNING for `owner`. Returns their versions, by id. Takes no locks. */
export async function heldRows(work: TableSql, ids: readonly string[], owner: string): Promise<Map<string, number>> {
  const list = work.ids(ids);
  return versions(
    await work.database.rows<VersionRecord>(
      `SELECT ${work.idText}, version FROM ${work.table} WHERE ${list.sql} AND owner = ? AND ${work.pinned('running')}`,
      [...list.params, owner],
    ),
  );
}

function versions(records: readonly VersionRecord[]): Map<string, number> {
  return new Map(records.map(({ id, version }) => [id, Number(version)]));
}
