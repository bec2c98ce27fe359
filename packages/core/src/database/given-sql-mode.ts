import type { SqlRunner } from './sql-runner.ts';

/** Keeps, on each connection of our own, the `sql_mode` that it had before ours. */
export const givenSqlMode = '@holdfast_given_sql_mode';

/**
 * MySQL, MariaDB: the modes of the service's own connections, such as `ANSI_QUOTES`: those of the server, and of knex's `afterCreate`. Ours have
 * others. Empty on other databases.
 * @param sql a runner on a connection of our own, such as a `Database`
 */
export async function sqlModesOfService(sql: Pick<SqlRunner, 'rows'>): Promise<ReadonlySet<string>> {
  const [row] = await sql.rows<{ modes: string | null }>(`SELECT ${givenSqlMode} AS modes`);
  return new Set((row?.modes ?? '').split(',').filter((mode) => mode !== ''));
}
