import type { TestDatabase } from '@holdfast/core/testing';

/** Writes `n` rows with one statement, as no caller could; `fields` are SQL expressions by column. */
export async function seedRows(db: TestDatabase, n: number, fields: Readonly<Record<string, string>>): Promise<void> {
  const into = `INSERT INTO compensate_biz (${Object.keys(fields).join(', ')})`;
  const values = Object.values(fields).join(', ');
  if (db.name === 'postgres') await db.knex.raw(`${into} SELECT ${values} FROM generate_series(1, ${n})`);
  else if (db.name === 'sqlite')
    await db.knex.raw(`${into} WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < ${n}) SELECT ${values} FROM s`);
  // By 100,000: one transaction of a million rows fills the undo log.
  else for (let left = n; left > 0; left -= 100_000) await db.knex.raw(insertMysql(db, into, values, Math.min(left, 100_000)));
  if (db.name === 'mariadb' || db.name === 'mysql') await db.knex.raw('ANALYZE TABLE compensate_biz');
  else await db.knex.raw('ANALYZE compensate_biz');
}

function insertMysql(db: TestDatabase, into: string, values: string, n: number): string {
  if (db.name === 'mariadb') return `${into} SELECT ${values} FROM seq_1_to_${n}`;
  const hinted = into.replace('INSERT', `INSERT /*+ SET_VAR(cte_max_recursion_depth = ${n}) */`);
  return `${hinted} WITH RECURSIVE s (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < ${n}) SELECT ${values} FROM s`;
}
