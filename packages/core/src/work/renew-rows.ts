import type { TableSql } from './table-sql.ts';

interface VersionRecord {
  readonly id: string;
  readonly version: number;
}

/**
 * Prolongs the leases of `owner`'s rows. Rows locked at the moment are skipped: one row held by an open settle would
 * otherwise stall the renewal of all others. Returns the version of each row renewed, by id.
 */
export async function renewRows(sql: TableSql, ids: readonly string[], owner: string, leaseMs: number): Promise<Map<string, number>> {
  const { database, table } = sql;
  const list = sql.ids(ids);
  const where = `${list.sql} AND owner = ? AND ${sql.pinned('running')}`;
  const params = [...list.params, owner];
  const set = `UPDATE ${table}${database.byPrimaryKey} SET lease_until = {now} + ?`;
  if (database.family === 'mysql') {
    return database.transaction(async (x) => {
      const found = versions(
        await x.rows<VersionRecord>(
          `SELECT ${sql.idText}, version FROM ${table}${database.byPrimaryKey} WHERE ${where} FOR UPDATE SKIP LOCKED`,
          params,
        ),
      );
      if (found.size > 0) await x.run(`${set} WHERE ${sql.ids([...found.keys()]).sql}`, [leaseMs]);
      return found;
    });
  }
  const picked = database.family === 'sqlite' ? where : `id = ANY(ARRAY(SELECT id FROM ${table} WHERE ${where} FOR UPDATE SKIP LOCKED))`;
  return versions(await database.rows<VersionRecord>(`${set} WHERE ${picked} RETURNING ${sql.idText}, version`, [leaseMs, ...params]));
}

/** Which of the rows are still RUNNING for `owner`, with their versions. Takes no locks. */
export async function heldRows(sql: TableSql, ids: readonly string[], owner: string): Promise<Map<string, number>> {
  const list = sql.ids(ids);
  return versions(
    await sql.database.rows<VersionRecord>(
      `SELECT ${sql.idText}, version FROM ${sql.table} WHERE ${list.sql} AND owner = ? AND ${sql.pinned('running')}`,
      [...list.params, owner],
    ),
  );
}

function versions(records: readonly VersionRecord[]): Map<string, number> {
  return new Map(records.map(({ id, version }) => [id, Number(version)]));
}
