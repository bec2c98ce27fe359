import { Database } from '@holdfast/core';
import type { TestDatabase } from '@holdfast/core/testing';

/** The plan of the first SELECT with this text that `run` sends, as JSON; on MySQL and MariaDB the keys that it uses. */
export async function planOf(db: TestDatabase, part: string, run: () => Promise<unknown>): Promise<string> {
  const seen: { sql: string; params: readonly unknown[] }[] = [];
  const { use } = Database.prototype;
  Database.prototype.use = function (fn) {
    return use.call(this, (sql) =>
      fn({
        ...sql,
        rows: (text, params) => {
          if (text.includes(part)) seen.push({ sql: this.sql(text), params: params ?? [] });
          return sql.rows(text, params);
        },
      }),
    ) as never;
  };
  try {
    await run();
  } finally {
    Database.prototype.use = use;
  }
  const [statement] = seen;
  if (!statement) throw new Error('no statement was seen');
  const explain = { sqlite: 'EXPLAIN QUERY PLAN', postgres: 'EXPLAIN', mysql: 'EXPLAIN FORMAT=TRADITIONAL', mariadb: 'EXPLAIN' }[db.name];
  const result = await db.knex.raw(`${explain} ${statement.sql}`, statement.params as never);
  // The keys that were only possible are left out.
  return JSON.stringify(
    db.name === 'mysql' || db.name === 'mariadb' ? result[0].map((row: { key: string }) => row.key) : (result.rows ?? result),
  );
}
